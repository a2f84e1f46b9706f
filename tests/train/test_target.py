"""Label ids become the channels of a head, as far as they are known."""

import torch

from medseg.labels import LabelSet
from medseg.train.target import encode, target_table

LABELS = LabelSet.from_names({0: "background", 1: "edema", 2: "core", 4: "enhancing"})


def test_a_softmax_head_has_one_channel_per_voxel_background_first() -> None:
    table = target_table(LABELS, "softmax")
    channels = encode(torch.tensor([[[0, 1], [2, 4]]]), table).channels
    assert channels.shape == (1, 4, 2, 2)
    assert torch.equal(channels.argmax(1)[0], torch.tensor([[0, 1], [2, 3]]))
    assert torch.equal(channels.sum(1), torch.ones(1, 2, 2))


def test_labels_left_out_of_the_recipe_are_background() -> None:
    some = LABELS.select({"core": ["core"]})
    channels = encode(torch.tensor([[0, 1, 2, 4]]), target_table(some, "softmax")).channels
    assert channels.argmax(1).tolist() == [[0, 0, 1, 0]]


def test_regions_overlap_with_a_sigmoid_head() -> None:
    regions = LABELS.select({"whole": ["edema", "core", "enhancing"], "inner": ["core", "enhancing"]})
    channels = encode(torch.tensor([[0, 1, 2, 4]]), target_table(regions, "sigmoid")).channels
    assert channels[0].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]


def test_of_a_dataset_that_is_labelled_all_over_everything_is_known() -> None:
    for head in ("softmax", "sigmoid"):
        assert encode(torch.tensor([[0, 1, 2, 4]]), target_table(LABELS, head)).known is None


def test_a_label_that_a_case_lacks_is_not_known_and_nor_is_background() -> None:
    label_map = torch.tensor([[0, 1], [0, 4]])
    labelled = torch.tensor([[True, False, True], [True, True, True]])
    softmax = encode(label_map, target_table(LABELS, "softmax"), labelled)
    assert softmax.known is not None
    assert softmax.known.tolist() == [[[False], [True], [False], [True]], [[True]] * 4]
    sigmoid = encode(label_map, target_table(LABELS, "sigmoid"), labelled)
    assert sigmoid.known is not None
    assert sigmoid.known[..., 0].tolist() == labelled.tolist()


def test_of_a_voxel_that_is_not_labelled_no_channel_is_known() -> None:
    table = target_table(LABELS.ignoring([255]), "softmax")
    target = encode(torch.tensor([[0, 255, 4]]), table)
    assert target.known is not None
    assert target.known.tolist() == [[[True, False, True]] * 4]
    target = encode(torch.tensor([[0, 255, 4]]), table, torch.tensor([[False, True, True]]))
    assert target.known is not None
    assert target.known.tolist() == [[[False] * 3] * 2 + [[True, False, True]] * 2]
