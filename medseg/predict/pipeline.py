"""Pipeline: read, work and write side by side, each item in its turn."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Worked = TypeVar("Worked")


def pipeline(
    items: Sequence[Item],
    *,
    read: Callable[[Item], Read],
    work: Callable[[Read], Worked],
    write: Callable[[Worked], None],
    beside_work: bool = True,
) -> None:
    """Take every item through three stages that overlap: while one is worked on, the next is read, the last written.

    No more than these three are held at a time, however many there are. Each stage sees the items in their order:
    reading has a thread of its own, so has writing, and the work is done in the caller's, where signals arrive.

    When the caller is interrupted, or a stage raises, the item being written is finished, the others are dropped and
    both threads have ended before the exception goes on.

    Args:
        items: what to do.
        read: the first stage.
        work: the second.
        write: the third.
        beside_work: whether the others go on during the work. Where the work takes every core, it loses more than they
            gain; then an item is read while the one before is written, and the work has the machine to itself. Handing
            an item from thread to thread takes 2 to 4 ms, which only tiny items do not get back.
    """
    with ThreadPoolExecutor(1, "write") as writer, ThreadPoolExecutor(1, "read") as reader:
        upcoming = (reader.submit(read, item) for item in items)  # each is begun when it is asked for
        coming = next(upcoming, None)
        going: Future[None] | None = None
        while coming:
            ready = coming.result()
            if beside_work:
                coming = next(upcoming, None)
            elif going:
                going.result()
            worked = work(ready)
            if going:
                going.result()
            going = writer.submit(write, worked)
            if not beside_work:
                coming = next(upcoming, None)
            del ready, worked
        if going:
            going.result()
