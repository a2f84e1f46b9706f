"""Label ids become the channels of a head."""

import torch

from medseg.labels import LabelSet
from medseg.train.target import encode, target_table

LABELS = LabelSet.from_names({0: "background", 1: "edema", 2: "core", 4: "enhancing"})


def test_a_softmax_head_has_one_channel_per_voxel_background_first() -> None:
    table = target_table(LABELS, "softmax")
    channels = encode(torch.tensor([[[0, 1], [2, 4]]]), table)
    assert channels.shape == (1, 4, 2, 2)
    assert torch.equal(channels.argmax(1)[0], torch.tensor([[0, 1], [2, 3]]))
    assert torch.equal(channels.sum(1), torch.ones(1, 2, 2))


def test_labels_left_out_of_the_recipe_are_background() -> None:
    some = LABELS.select({"core": ["core"]})
    channels = encode(torch.tensor([[0, 1, 2, 4]]), target_table(some, "softmax"))
    assert channels.argmax(1).tolist() == [[0, 0, 1, 0]]


def test_regions_overlap_with_a_sigmoid_head() -> None:
    regions = LABELS.select({"whole": ["edema", "core", "enhancing"], "inner": ["core", "enhancing"]})
    channels = encode(torch.tensor([[0, 1, 2, 4]]), target_table(regions, "sigmoid"))
    assert channels[0].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]
