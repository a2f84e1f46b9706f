"""Three stages side by side: in order, bounded, and ended before an exception goes on."""

import threading
import time

import pytest

from medseg.predict.pipeline import pipeline


@pytest.mark.parametrize("beside_work", [True, False])
def test_every_item_goes_through_the_stages_in_its_turn(beside_work: bool) -> None:
    written: list[str] = []
    pipeline(
        range(20),
        read=lambda n: f"read {n}",
        work=lambda text: f"worked {text}",
        write=written.append,
        beside_work=beside_work,
    )
    assert written == [f"worked read {n}" for n in range(20)]


def test_nothing_to_do_is_done_at_once() -> None:
    pipeline([], read=pytest.fail, work=pytest.fail, write=pytest.fail)


def test_the_work_is_done_in_the_callers_thread_and_each_other_stage_in_one_of_its_own() -> None:
    threads: dict[str, set[int]] = {"read": set(), "work": set(), "write": set()}

    def stage(name: str, item: int) -> int:
        threads[name].add(threading.get_ident())
        return item

    pipeline(
        range(6),
        read=lambda n: stage("read", n),
        work=lambda n: stage("work", n),
        write=lambda n: stage("write", n) and None,
    )
    assert threads["work"] == {threading.get_ident()}
    assert len(threads["read"] | threads["work"] | threads["write"]) == 3


@pytest.mark.parametrize("slow", ["read", "work", "write"])
def test_never_are_more_than_three_items_held(slow: str) -> None:
    held, most, lock = set[int](), [0], threading.Lock()

    def stage(name: str, item: int) -> int:
        with lock:
            held.add(item)
            most[0] = max(most[0], len(held))
        time.sleep(0.004 if name == slow else 0.0005)
        if name == "write":
            held.discard(item)
        return item

    pipeline(
        range(15),
        read=lambda n: stage("read", n),
        work=lambda n: stage("work", n),
        write=lambda n: stage("write", n) and None,
    )
    assert 2 <= most[0] <= 3


def test_work_that_wants_the_machine_to_itself_has_it_and_reading_overlaps_writing() -> None:
    active, beside, lock = set[str](), set[frozenset[str]](), threading.Lock()

    def stage(name: str, item: int) -> int:
        with lock:
            active.add(name)
            beside.add(frozenset(active))
        time.sleep(0.03 if name == "write" else 0.004)
        with lock:
            active.discard(name)
        return item

    pipeline(
        range(9),
        read=lambda n: stage("read", n),
        work=lambda n: stage("work", n),
        write=lambda n: stage("write", n) and None,
        beside_work=False,
    )
    assert {stages for stages in beside if "work" in stages} == {frozenset({"work"})}
    assert frozenset({"read", "write"}) in beside


def test_stages_run_side_by_side() -> None:
    began = time.perf_counter()
    pipeline(
        range(8),
        read=lambda n: time.sleep(0.05) or n,
        work=lambda n: time.sleep(0.05) or n,
        write=lambda _: time.sleep(0.05),
    )
    assert time.perf_counter() - began < 0.9 * 8 * 3 * 0.05


@pytest.mark.parametrize("stage", ["read", "work", "write"])
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("beside_work", [True, False])
def test_what_a_stage_raises_comes_out_once_the_threads_have_ended(
    stage: str, kind: type[BaseException], beside_work: bool
) -> None:
    before = threading.active_count()
    written: list[int] = []

    def at(name: str, item: int) -> int:
        time.sleep(0.002)
        if name == stage and item == 4:
            raise kind
        return item

    def write(item: int) -> None:
        at("write", item)
        written.append(item)

    with pytest.raises(kind):
        pipeline(
            range(9), read=lambda n: at("read", n), work=lambda n: at("work", n), write=write, beside_work=beside_work
        )
    assert threading.active_count() == before
    assert written == [0, 1, 2, 3]


def test_the_item_being_written_is_finished_when_the_work_is_interrupted() -> None:
    written: list[int] = []
    writing = threading.Event()

    def write(item: int) -> None:
        writing.set()
        time.sleep(0.05)
        written.append(item)

    def work(item: int) -> int:
        if item == 1:
            assert writing.wait(5)
            raise KeyboardInterrupt
        return item

    with pytest.raises(KeyboardInterrupt):
        pipeline(range(9), read=int, work=work, write=write)
    assert written == [0]
