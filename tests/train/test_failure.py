"""Facts about what a machine does to a training: torch's words come out as an error that says what helps."""

from pathlib import Path

import pytest

from medseg.errors import MedsegError, OutOfMemoryError, TrainingError
from medseg.train.failure import explained

WORKER = """Caught RuntimeError in DataLoader worker process 3.
Original Traceback (most recent call last):
  File "worker.py", line 349, in _worker_loop
    data = fetcher.fetch(index)
RuntimeError: """
NO_SPACE = "unable to allocate shared memory(shm) for file </torch_91_2_0>: No space left on device (28)"


@pytest.mark.parametrize(
    ("said", "kind", "helps"),
    [
        (NO_SPACE, TrainingError, "--shm-size"),
        (WORKER + NO_SPACE, TrainingError, "--shm-size"),
        ("unable to open shared memory object </torch_7> in read-write mode", TrainingError, "--workers 0"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", TrainingError, "--workers 0"),
        (WORKER + "DefaultCPUAllocator: can't allocate memory: you tried to", OutOfMemoryError, "training.batch"),
        ("CUDA out of memory. Tried to allocate 20.00 MiB.", OutOfMemoryError, "training.batch"),
        ("[gloo/transport/tcp/pair.cc:553] Connection closed by peer", TrainingError, "Another process"),
        ("max_pool3d_backward_cuda does not have a deterministic implementation", TrainingError, "--deterministic"),
    ],
)
def test_what_helps_depends_on_what_torch_says(said: str, kind: type[MedsegError], helps: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=helps) as caught, explained(tmp_path):
        raise RuntimeError(said)
    assert said.splitlines()[-1].removeprefix("RuntimeError: ").strip() in caught.value.found
    assert "Traceback" not in caught.value.found


def test_what_nobody_foresaw_comes_out_as_it_is(tmp_path: Path) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as caught, explained(tmp_path):
        raise error
    assert caught.value is error
