"""Sample n of the stream is the same whoever draws it, and every case has its turn."""

import pickle
from pathlib import Path

import pytest
import torch

from medseg.across import TORCHRUN
from medseg.dataset import open_dataset
from medseg.preprocess import prepare_case
from medseg.recipe import Recipe, load_recipe
from medseg.train.stream import PatchStream, batches


@pytest.fixture(scope="module")
def chosen(recipe: Path) -> Recipe:
    return load_recipe(str(recipe))


@pytest.fixture(scope="module")
def cases(dataset: Path, chosen: Recipe, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    opened = open_dataset(dataset)
    cache = tmp_path_factory.mktemp("prepared")
    labels = opened.manifest.label_set
    return [prepare_case(opened, case, settings=chosen.preprocess, labels=labels, cache=cache) for case in opened.cases]


def test_a_sample_is_the_same_in_any_order(cases: list[Path], chosen: Recipe) -> None:
    stream = PatchStream(cases, chosen, seed=3)
    forwards = [stream[number] for number in range(6)]
    backwards = [PatchStream(cases, chosen, seed=3)[number] for number in reversed(range(6))]
    for (image, label_map), (again, label_map_again) in zip(forwards, reversed(backwards), strict=True):
        assert torch.equal(image, again)
        assert torch.equal(label_map, label_map_again)


def test_another_seed_draws_other_samples(cases: list[Path], chosen: Recipe) -> None:
    assert not torch.equal(PatchStream(cases, chosen, seed=3)[0][0], PatchStream(cases, chosen, seed=4)[0][0])


def test_every_case_has_its_turn_in_each_round(cases: list[Path], chosen: Recipe) -> None:
    seen: list[str] = []

    class Recorder(list[Path]):
        def __getitem__(self, place: object) -> Path:  # type: ignore[override]
            folder = super().__getitem__(int(place))  # type: ignore[call-overload]
            seen.append(folder.name)
            return folder

    stream = PatchStream(Recorder(cases), chosen, seed=0)
    for number in range(10):
        stream[number]
    assert sorted(seen[:5]) == sorted(seen[5:]) == sorted(folder.name for folder in cases)


def test_what_a_worker_is_sent_does_not_grow_with_the_cases(cases: list[Path], chosen: Recipe) -> None:
    assert len(pickle.dumps(PatchStream(cases, chosen, seed=0))) < 20_000


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_go_on_at_any_step(cases: list[Path], chosen: Recipe, workers: int) -> None:
    stream = PatchStream(cases, chosen, seed=1)
    whole = [image for image, _ in batches(stream, batch=2, first=0, last=3, workers=workers)]
    rest = [image for image, _ in batches(stream, batch=2, first=1, last=3, workers=0)]
    assert len(whole) == 3
    assert torch.equal(torch.stack(whole[1:]), torch.stack(rest))


def test_memory_is_pinned_for_a_cuda_device_and_not_because_there_is_one(
    cases: list[Path], chosen: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    stream = PatchStream(cases, chosen, seed=1)
    for pinned in (False, True):
        assert batches(stream, batch=2, first=0, last=1, workers=0, pinned=pinned).pin_memory is pinned


def test_workers_are_counted_for_the_processes_of_this_machine(
    cases: list[Path], chosen: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TORCHRUN:
        monkeypatch.setenv(name, {"WORLD_SIZE": "16"}.get(name, "0"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr("medseg.train.stream.drawing_workers", {16: 0, 4: 1}.get)
    loader = batches(PatchStream(cases, chosen, seed=1), batch=16, first=0, last=1, workers=None)
    assert loader.num_workers == 1


def test_processes_share_the_batches_of_one(cases: list[Path], chosen: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = PatchStream(cases, chosen, seed=1)
    whole = [image for image, _ in batches(stream, batch=4, first=1, last=3, workers=0)]
    shares = []
    for rank in range(2):
        for name in TORCHRUN:
            monkeypatch.setenv(name, {"WORLD_SIZE": "2", "RANK": str(rank)}.get(name, "0"))
        shares.append([image for image, _ in batches(stream, batch=4, first=1, last=3, workers=0)])
    assert [len(share) for share in shares] == [2, 2]
    assert torch.equal(torch.stack(whole), torch.cat([torch.stack(share) for share in shares], dim=1))
