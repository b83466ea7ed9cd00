"""The queue keeps its order, wants each picture once, and forgets no problem before the picture is added again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.store.queue import Queue
from tests.support_time import IMAGE, FakeTime, ledger_of, quick_database
from tests.unit.test_ledger import spend

ORACLE = "o"


@pytest.fixture
def queue() -> Iterator[Queue]:
    with quick_database() as database:
        opened = Queue(database)
        opened.set_problem(IMAGE, "not part of these tests")
        yield opened


def names(queue: Queue, repeats: int = 1) -> str:
    return "".join(q.sha256 for q in queue.waiting(ORACLE, repeats))


def test_higher_priority_first_then_first_come(queue: Queue) -> None:
    assert queue.add([("a", "1"), ("b", "2")], 0, 0.0) == 2
    assert queue.add([("c", "3"), ("d", "4")], 5, 0.0) == 2
    assert names(queue) == "cdab"


def test_adding_again_raises_the_priority_and_never_lowers_it(queue: Queue) -> None:
    queue.add([("a", "1"), ("b", "2"), ("c", "3")], 3, 0.0)
    assert queue.add([("b", "2"), ("b", "2")], 9, 0.0) == 0
    queue.add([("a", "1")], 0, 0.0)
    assert names(queue) == "bac"


def test_a_picture_that_was_only_asked_about_can_be_queued_later(queue: Queue) -> None:
    assert queue.add([("a", "1")], 0, 0.0, queued=False) == 1
    assert names(queue) == "" and queue.count_waiting(ORACLE) == 0
    assert queue.add([("a", "1")], 0, 0.0, queued=False) == 0
    assert queue.add([("a", "1")], 0, 0.0) == 1
    assert names(queue) == "a"


def test_a_problem_stands_until_the_picture_is_added_again(queue: Queue) -> None:
    queue.add([("a", "1"), ("b", "2")], 0, 0.0)
    queue.set_problem("a", "the oracle refused it")
    assert names(queue) == "b" and queue.problems() == 2
    assert queue.add([("a", "1")], 0, 0.0) == 1
    assert names(queue) == "ab" and queue.problems() == 1


def test_answers_of_this_oracle_are_counted_and_no_others() -> None:
    with quick_database() as database:
        queue = Queue(database)
        for oracle, repeats, waits in (("other", 1, True), (ORACLE, 1, False), (ORACLE, 2, True)):
            ledger = ledger_of(database, FakeTime(), oracle=oracle)
            ledger.open_window("test")
            if not queue.count_answered(oracle):
                spend(ledger)
            assert queue.count_waiting(ORACLE, repeats) == (names(queue, repeats) != "") == waits
            assert queue.count_answered(ORACLE, repeats) == (not waits)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-2, 2)), max_size=15))
def test_the_order_is_that_of_the_highest_priority_and_the_first_arrival(steps: list[tuple[str, int]]) -> None:
    best: dict[str, int] = {}
    with quick_database() as database:
        queue = Queue(database)
        queue.set_problem(IMAGE, "")
        for name, priority in steps:
            queue.add([(name, "")], priority, 0.0)
            best[name] = max(best.get(name, -9), priority)
        assert names(queue) == "".join(sorted(best, key=lambda n: -best[n]))


def test_a_long_queue_is_read_in_pieces_each_picture_once_while_others_add(queue: Queue) -> None:
    queue.add([(f"{n:04},", "") for n in range(700)], 0, 0.0)
    queue.add([(f"{n:04},", "") for n in range(700, 800)], -1, 0.0)
    seen = []
    for number, queued in enumerate(queue.waiting(ORACLE)):
        seen.append(queued.sha256)
        if number == 300:
            queue.add([("later,", "")], 0, 0.0)
            queue.add([("best,", "")], 9, 0.0)
    assert seen == [*(f"{n:04}," for n in range(700)), "later,", *(f"{n:04}," for n in range(700, 800))]
    assert next(queue.waiting(ORACLE)).sha256 == "best,", "the next run begins with it"
