"""Several queries at once: never more than allowed, never above the oracle's own quota, nothing lost on the way."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.asking import Bounds, NoAnswer, Outcome
from pi_agent.contract.answers import Answer, ServerBudget
from pi_agent.contract.images import QueryImage
from pi_agent.crew import Crew
from pi_agent.errors import BudgetSpent, ClockDoubt, LockedOut, OracleFailing
from pi_agent.oracle import Oracle
from pi_agent.store.db import Database
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger
from pi_agent.store.queue import Queue
from pi_agent.transports.base import Failed, LockOut, NotSent, Probe, Reply, TransportError
from tests.support_time import FakeTime, ledger_of, quick_database

GOOD = {"classes": ["a", "b"], "scores": [0.25, 0.75]}


@dataclass
class Server:
    """Counts like an oracle, from many threads. `fate` may raise after a question was counted, or not counted."""

    time: FakeTime
    quota: int = 10**6
    fate: Callable[[int], None] = lambda number: None
    tells: bool = True
    url: str = "server://"
    counted: int = 0
    refused: int = 0
    inside: int = 0
    busiest: int = 0
    asked: list[bytes] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, jpeg: bytes) -> Reply:
        with self._lock:
            self.asked.append(jpeg)
            self.inside += 1
            self.busiest = max(self.busiest, self.inside)
            if self.counted >= self.quota:
                self.refused += 1
                self.inside -= 1
                raise LockOut("HTTP 403", None)
            self.counted += 1
            number, budget = self.counted, self._budget()
        try:
            self.fate(number)
        finally:
            with self._lock:
                self.inside -= 1
        return Reply(GOOD, budget)

    def probe(self) -> Probe:
        with self._lock:
            return Probe(float(int(self.time.true)), self._budget())

    def close(self) -> None: ...

    def _budget(self) -> ServerBudget | None:
        return ServerBudget(self.quota - self.counted, 79.0) if self.tells else None


def images(count: int) -> list[QueryImage]:
    return [QueryImage.of(f"picture {n}".encode()) for n in range(count)]


@dataclass
class Scene:
    database: Database
    time: FakeTime
    quota: int = 1000

    def __post_init__(self) -> None:
        self.ledger: Ledger = ledger_of(self.database, self.time, quota=self.quota)
        self.labels = Labels(self.database, "o")
        self.outcomes: list[Outcome] = []

    def ask(self, server: Server, count: int, in_flight: int, bounds: Bounds = Bounds()) -> Oracle:  # noqa: B008
        wanted = images(count)
        Queue(self.database).add([(image.sha256, "") for image in wanted], 0, 0.0)
        self.ledger.recover()
        oracle = Oracle(self.ledger, self.labels, lambda: server, self.time.clock, 3, in_flight, lambda: 1.0)
        missing = [image for image in wanted if self.labels.get(image.sha256) is None]
        oracle.ask_all(missing, lambda _, outcome: self.outcomes.append(outcome), bounds)
        return oracle


@pytest.fixture
def scene() -> Iterator[Scene]:
    with quick_database() as database:
        yield Scene(database, FakeTime(1_000_021.0))


def test_as_many_as_allowed_are_under_way_and_never_more(scene: Scene) -> None:
    together = threading.Barrier(4)

    def fate(number: int) -> None:
        if 8 <= number < 16:
            together.wait(timeout=20)  # passes only when four are inside at once

    server = Server(scene.time, fate=fate)
    oracle = scene.ask(server, 40, in_flight=4)
    assert (server.busiest, server.counted, oracle.sent, scene.labels.count()) == (4, 40, 40, 40)
    assert len(set(server.asked)) == 40


def test_the_first_question_goes_alone_and_so_does_the_one_after_a_failure(scene: Scene) -> None:
    inside_at: dict[int, int] = {}

    def fate(number: int) -> None:
        inside_at[number] = server.inside
        if number == 1:
            raise Failed("HTTP 500")

    server = Server(scene.time, fate=fate)
    scene.ask(server, 12, in_flight=8)
    assert (inside_at[1], inside_at[2]) == (1, 1)
    assert scene.labels.count() == 12 and server.counted == 13


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(1, 60), st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False))
def test_never_above_our_quota_or_the_oracles_whichever_is_lower(
    theirs: int, ours: int, in_flight: int, flaky: bool, rng: random.Random
) -> None:
    def fate(number: int) -> None:
        threading.Event().wait(rng.random() * 0.002)  # answers overtake each other
        if flaky and rng.random() < 0.2:
            raise Failed("reset")

    with quick_database() as database:
        scene = Scene(database, FakeTime(1_000_021.0), quota=ours)
        server = Server(scene.time, quota=theirs, fate=fate)
        for _ in range(3):
            try:
                scene.ask(server, 50, in_flight)
            except (BudgetSpent, OracleFailing):
                continue
            break
        assert server.refused == 0
        assert server.counted <= min(theirs, ours)
        assert scene.ledger.budget().spent == server.counted
        if not flaky:
            assert server.counted == min(theirs, ours, 50), "and nothing of it is lost"
            assert scene.ledger.budget().remaining == min(theirs, ours) - server.counted, "the figure is exact"


def test_a_silent_oracle_with_a_lower_quota_locks_out_and_everything_under_way_lands(scene: Scene) -> None:
    server = Server(scene.time, quota=10, tells=False)
    with pytest.raises(LockedOut):
        scene.ask(server, 50, in_flight=4)
    assert server.counted == scene.labels.count() == 10
    assert 1 <= server.refused <= 4
    assert scene.database.value("SELECT count(*) FROM attempt WHERE closed_at IS NULL") == 0
    with pytest.raises(LockedOut):
        scene.ask(server, 50, in_flight=4)
    assert server.refused <= 4, "nothing was asked again"


def test_a_limit_and_a_reserve_hold_for_many_at_once(scene: Scene) -> None:
    server = Server(scene.time)
    assert scene.ask(server, 50, 8, Bounds(limit=13)).sent == server.counted == 13
    with pytest.raises(BudgetSpent, match="985 of them kept in reserve"):
        scene.ask(server, 50, 8, Bounds(keep=985))
    assert server.counted == 15
    scene.ask(server, 16, 8)
    assert server.counted == 16


def test_nothing_goes_out_after_the_hour(scene: Scene) -> None:
    def fate(number: int) -> None:
        scene.time.true += 1.0

    server = Server(scene.time, fate=fate)
    scene.ask(server, 50, 1, Bounds(until=scene.time.true + 5))
    assert server.counted == 5


@pytest.mark.parametrize("leap", [-1_000_000.0, -3600.0, 3600.0, 365 * 86400.0])
def test_a_leap_of_the_clock_in_the_middle_ends_the_night_and_keeps_what_was_paid_for(
    scene: Scene, leap: float
) -> None:
    def fate(number: int) -> None:
        if number == 10:
            scene.time.offset = leap

    server = Server(scene.time, fate=fate)
    with pytest.raises(ClockDoubt) as caught:
        scene.ask(server, 50, in_flight=4)
    assert caught.value.exit_code == 69
    assert 10 <= server.counted <= 14
    assert scene.labels.count() == server.counted
    scene.time.offset = 0
    scene.ask(server, 50, in_flight=4)
    assert server.counted == scene.labels.count() == 50


def test_the_reset_passes_in_the_middle_and_every_query_is_charged_where_it_may_count(scene: Scene) -> None:
    per_window: dict[int, int] = {}

    def fate(number: int) -> None:
        window = int(scene.time.true) // 100
        per_window[window] = per_window.get(window, 0) + 1
        if number == 20:
            scene.time.true += 100

    scene.ledger = ledger_of(scene.database, scene.time, quota=30)
    server = Server(scene.time, fate=fate, tells=False)
    scene.ask(server, 44, in_flight=4)
    assert sum(per_window.values()) == 44 and max(per_window.values()) <= 30
    assert 24 <= scene.ledger.budget().spent <= 28, "those in flight across the reset are charged to both"


def test_what_never_left_is_refunded_and_one_unreachable_oracle_ends_it(scene: Scene) -> None:
    def fate(number: int) -> None:
        if number > 5:
            server.counted -= 1
            raise NotSent("connection refused")

    server = Server(scene.time, fate=fate)
    with pytest.raises(Exception, match="cannot be reached"):
        scene.ask(server, 50, in_flight=4)
    assert scene.ledger.budget().spent == scene.labels.count() == 5


def test_a_bug_in_a_thread_is_seen_in_ours(scene: Scene) -> None:
    def fate(number: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        scene.ask(Server(scene.time, fate=fate), 5, in_flight=2)
    assert scene.ledger.recover() == (0, 1)


def test_a_sick_oracle_costs_few_queries_however_many_could_be_under_way(scene: Scene) -> None:
    def fate(number: int) -> None:
        if number > 20:
            raise Failed("HTTP 500")

    server = Server(scene.time, fate=fate)
    with pytest.raises(OracleFailing):
        scene.ask(server, 200, in_flight=8)
    assert server.counted <= 20 + 8 + 3 * 3, "those under way, and three images with three attempts each"
    assert all(isinstance(o, Answer | NoAnswer) for o in scene.outcomes)


def test_a_crew_hands_back_everything_and_wakes_when_told() -> None:
    crew = Crew(lambda: Server(FakeTime()), 3)
    for number in range(9):
        crew.send(number, b"")
    landed = []
    while crew.under_way:
        landed += crew.landed()
    assert sorted(x.attempt for x in landed) == list(range(9))
    threading.Timer(0.05, crew.wake).start()
    assert crew.landed() == []
    crew.dismiss()


def test_a_thread_that_cannot_connect_says_so() -> None:
    def connect() -> Server:
        raise NotSent("no route")

    crew = Crew(connect, 1)
    crew.send(7, b"")
    (landing,) = crew.landed()
    assert landing.attempt == 7 and isinstance(landing.outcome, TransportError)
    crew.dismiss()
