"""The ledger never overspends, whatever the clock, a crash or the oracle does; and it wastes nothing without need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pi_agent.contract.answers import Answer, ServerBudget
from pi_agent.contract.windows import DAY, MAX_PERIOD, Period
from pi_agent.errors import BudgetSpent, ClockDoubt, LockedOut
from pi_agent.store.db import Database
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger, TooSoon, WindowNotOpen
from tests.support_time import IMAGE, FakeTime, ledger_of, quick_database

ANSWER = Answer("scores", ("a", "b"), np.float32([0.25, 0.75]))
DAWN = 1_000_000.0  # a window of 100 s starts here


@pytest.fixture
def database() -> Iterator[Database]:
    with quick_database() as opened:
        yield opened


@pytest.fixture
def time() -> FakeTime:
    return FakeTime(DAWN + 20)


@pytest.fixture
def ledger(database: Database, time: FakeTime) -> Ledger:
    opened = ledger_of(database, time)
    opened.open_window("test")
    return opened


def spend(ledger: Ledger) -> int:
    """One query, sent and answered."""
    attempt = ledger.reserve(IMAGE)
    ledger.mark_sent(attempt)
    ledger.settle(attempt, ANSWER, None)
    return attempt


def counts(ledger: Ledger) -> tuple[int, int, int, int]:
    """Spent, reserved, refunded, remaining."""
    budget = ledger.budget()
    return budget.spent, budget.reserved, budget.refunded, budget.remaining


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_query_is_reserved_sent_and_settled_with_its_answer(ledger: Ledger, database: Database) -> None:
    attempt = ledger.reserve(IMAGE)
    assert counts(ledger) == (0, 1, 0, 2)
    ledger.mark_sent(attempt)
    assert counts(ledger) == (1, 0, 0, 2)
    ledger.settle(attempt, ANSWER, None)
    assert counts(ledger) == (1, 0, 0, 2)
    stored = Labels(database, "o").get(IMAGE)
    assert stored is not None and stored.vector.tobytes() == ANSWER.vector.tobytes()


def test_a_refund_gives_back_and_a_failure_does_not(ledger: Ledger) -> None:
    for number in range(3):
        attempt = ledger.reserve(IMAGE)
        if number:
            ledger.mark_sent(attempt)
        ledger.refund(attempt, "no connection")
    assert counts(ledger) == (0, 0, 3, 3)
    attempt = ledger.reserve(IMAGE)
    ledger.mark_sent(attempt)
    ledger.close_unanswered(attempt, "HTTP 500")
    assert counts(ledger) == (1, 0, 3, 2)


def test_a_closed_attempt_never_moves_again(ledger: Ledger) -> None:
    settled, failed, refunded = spend(ledger), ledger.reserve(IMAGE), ledger.reserve(IMAGE)
    ledger.refund(refunded, "")
    ledger.mark_sent(failed)
    ledger.close_unanswered(failed, "")
    before = counts(ledger)
    for attempt in (settled, failed, refunded):
        for move in (
            lambda a: ledger.refund(a, "again"),
            ledger.mark_sent,
            lambda a: ledger.close_unanswered(a, "again"),
            lambda a: ledger.settle(a, ANSWER, None),
        ):
            with pytest.raises(RuntimeError):
                move(attempt)
    assert counts(ledger) == before == (2, 0, 1, 1)


def test_the_quota_is_the_end(ledger: Ledger) -> None:
    for _ in range(3):
        spend(ledger)
    with pytest.raises(BudgetSpent) as caught:
        ledger.reserve(IMAGE)
    assert caught.value.exit_code == 75
    assert counts(ledger) == (3, 0, 0, 0)


def test_two_ledgers_on_one_database_share_the_budget(ledger: Ledger, database: Database, time: FakeTime) -> None:
    with Database(database.path) as other:
        twin = ledger_of(other, time)
        for each in (ledger, twin, ledger):
            each.reserve(IMAGE)
        with pytest.raises(BudgetSpent):
            twin.reserve(IMAGE)


def test_another_oracle_has_another_budget(ledger: Ledger, database: Database, time: FakeTime) -> None:
    other = ledger_of(database, time, oracle="other")
    other.open_window("test")
    for _ in range(3):
        spend(ledger)
    assert counts(other) == (0, 0, 0, 3)


def test_after_a_crash_what_was_reserved_is_back_and_what_was_sent_is_spent(
    ledger: Ledger, database: Database, time: FakeTime
) -> None:
    spend(ledger)
    ledger.mark_sent(ledger.reserve(IMAGE))
    ledger.reserve(IMAGE)
    with Database(database.path) as after:
        again = ledger_of(after, time)
        assert again.recover() == (1, 1)
        assert again.recover() == (0, 0)
        assert counts(again) == (2, 0, 1, 1)


# -- windows -----------------------------------------------------------------------------------------------------------


def test_a_quiet_ledger_gives_the_whole_quota_in_every_window(ledger: Ledger, time: FakeTime) -> None:
    for _ in range(5):
        for _ in range(3):
            spend(ledger)
        time.true += 100
        with pytest.raises(WindowNotOpen):
            ledger.reserve(IMAGE)
        ledger.open_window("test")


def test_a_query_in_flight_across_the_reset_is_charged_to_both_windows(ledger: Ledger, time: FakeTime) -> None:
    attempt = ledger.reserve(IMAGE)
    ledger.mark_sent(attempt)
    time.true = DAWN + 100 + 40
    ledger.close_unanswered(attempt, "slow")
    ledger.open_window("test")
    assert counts(ledger) == (1, 0, 0, 2)
    time.true += 100
    ledger.open_window("test")
    assert counts(ledger) == (0, 0, 0, 3)


def test_a_reservation_that_outlives_its_window_is_not_sent_in_the_next(ledger: Ledger, time: FakeTime) -> None:
    attempt = ledger.reserve(IMAGE)
    time.true += 100
    with pytest.raises(WindowNotOpen):
        ledger.mark_sent(attempt)
    ledger.refund(attempt, "")
    assert counts(ledger) == (0, 0, 0, 3)


def test_just_after_the_reset_a_spent_window_may_not_be_over_for_the_oracle(ledger: Ledger, time: FakeTime) -> None:
    for _ in range(3):
        spend(ledger)
    time.true = DAWN + 103
    ledger.open_window("test")
    with pytest.raises(TooSoon) as caught:
        ledger.reserve(IMAGE)
    time.sleep(caught.value.wait)
    assert time.true == DAWN + 100 + ledger.skew
    spend(ledger)


def test_a_clock_back_in_1970_spends_nothing(ledger: Ledger, time: FakeTime) -> None:
    spend(ledger)
    time.offset = -time.true + 5
    with pytest.raises(WindowNotOpen):
        ledger.reserve(IMAGE)
    with pytest.raises(ClockDoubt) as caught:
        ledger.open_window("test")
    assert caught.value.exit_code == 69
    assert ledger.budget().spent == 1, "the ledger's day does not go back"
    time.offset = 0
    spend(ledger)


def test_a_clock_set_back_within_the_window_must_be_vouched_for_again(ledger: Ledger, time: FakeTime) -> None:
    time.true += 50
    spend(ledger)
    time.offset = -30
    with pytest.raises(WindowNotOpen):
        ledger.reserve(IMAGE)
    ledger.open_window("test")
    spend(ledger)
    assert counts(ledger) == (2, 0, 0, 1)


def test_a_leap_into_the_future_mints_nothing_and_leaves_no_trace(ledger: Ledger, time: FakeTime) -> None:
    for _ in range(3):
        spend(ledger)
    time.offset = 10 * 365.0 * DAY
    with pytest.raises(WindowNotOpen):
        ledger.reserve(IMAGE)
    assert ledger.lock_out(None) > time.true + DAY, "what it says of the end is a guess"
    time.offset = 0
    with pytest.raises(BudgetSpent):
        ledger.reserve(IMAGE)
    time.true += 100
    ledger.open_window("test")
    spend(ledger)


@pytest.mark.parametrize("leap", [-3600.0, 30.0, 3600.0, 365.0 * DAY])
def test_a_lock_out_that_is_counted_from_a_clock_nobody_vouched_for_is_not_kept(
    ledger: Ledger, time: FakeTime, leap: float
) -> None:
    time.offset = leap
    ledger.lock_out(time.now() + 500)
    ledger.lock_out(None)
    time.offset = 0
    assert ledger.budget().locked_until is None
    spend(ledger)


def test_a_clock_that_falls_back_while_a_query_flies_does_not_hide_when_it_landed(
    ledger: Ledger, time: FakeTime
) -> None:
    time.true = DAWN + 85
    attempt = ledger.reserve(IMAGE)
    ledger.mark_sent(attempt)
    time.true, time.offset = DAWN + 104, -50
    ledger.close_unanswered(attempt, "slow")
    time.offset = 0
    ledger.open_window("test")
    assert ledger.budget().spent == 1


def test_a_longer_period_still_counts_what_shorter_ones_spent(
    ledger: Ledger, database: Database, time: FakeTime
) -> None:
    for _ in range(3):
        spend(ledger)
    longer = ledger_of(database, time, seconds=DAY)
    longer.open_window("test")
    with pytest.raises(BudgetSpent):
        longer.reserve(IMAGE)


# -- what the oracle says ----------------------------------------------------------------------------------------------


def test_what_the_oracle_says_is_left_only_lowers(ledger: Ledger) -> None:
    ledger.note_server(ServerBudget(1000, 50.0))
    assert ledger.budget().remaining == 3
    ledger.note_server(ServerBudget(1, 50.0))
    assert ledger.budget().remaining == 1
    ledger.note_server(ServerBudget(2, 50.0))
    assert ledger.budget().remaining == 1
    spend(ledger)
    with pytest.raises(BudgetSpent):
        ledger.reserve(IMAGE)


def test_what_it_says_of_the_window_that_has_just_ended_is_not_held_against_the_new_one(
    ledger: Ledger, time: FakeTime
) -> None:
    time.true = DAWN + 102
    ledger.open_window("test")
    ledger.note_server(ServerBudget(0, 3.0))  # its clock says 97 of 100 seconds
    assert ledger.budget().remaining == 3
    ledger.note_server(ServerBudget(0, 95.0))
    assert ledger.budget().remaining == 0


@pytest.mark.parametrize(
    ("until", "locked_for"),
    [(None, 80.0), (DAWN + 5000, 4980.0), (DAWN - 5000, 80.0), (DAWN + 15, 10.0), (1e300, float(MAX_PERIOD))],
)
def test_a_lock_out_closes_the_day(ledger: Ledger, time: FakeTime, until: float | None, locked_for: float) -> None:
    assert ledger.lock_out(until) == time.true + locked_for
    budget = ledger.budget()
    assert (budget.remaining, budget.locked_until) == (0, time.true + locked_for)
    with pytest.raises(LockedOut):
        ledger.reserve(IMAGE)
    time.true += locked_for
    with contextlib.suppress(WindowNotOpen):
        ledger.reserve(IMAGE)
    assert ledger.budget().locked_until is None


def test_a_shorter_lock_out_does_not_shorten_a_longer_one(ledger: Ledger) -> None:
    ledger.lock_out(DAWN + 5000)
    ledger.lock_out(DAWN + 50)
    assert ledger.budget().locked_until == DAWN + 5000


# -- everything at once ------------------------------------------------------------------------------------------------


class Adversary(RuleBasedStateMachine):
    """An oracle whose clock is the true time, and that counts a query at any moment between sending and closing.

    Whatever order things happen in, no window of the oracle may be able to count more than the quota.
    """

    PERIOD, SKEW, TIMEOUT = Period(100), 10.0, 20.0

    seconds = st.sampled_from([0.0, 0.0, 1.0, 5.0, 15.0, 50.0, 100.0]) | st.floats(0, 150)
    beside = st.none() | st.sampled_from([-20.0, -10.0, -1.0, 0.0, 1.0, 10.0]) | st.floats(-21, 11)
    servers = st.none() | st.builds(ServerBudget, st.integers(0, 5), st.floats(0, 200))
    right = st.sampled_from([-SKEW, 0.0, SKEW]) | st.floats(-SKEW, SKEW)

    @initialize(quota=st.sampled_from([1, 2, 1, 2, 3, 0]), start=st.floats(0, 300), offset=right)
    def begin(self, quota: int, start: float, offset: float) -> None:
        self.resources = contextlib.ExitStack()
        self.time = FakeTime(DAWN + start, offset)
        self.database = self.resources.enter_context(quick_database())
        self.quota = quota
        self.flights: list[tuple[float, float]] = []
        self.newest = 0.0
        self.locked_until = 0.0
        self.start_run()

    def start_run(self) -> None:
        self.ledger = ledger_of(self.database, self.time, self.quota, 100, self.TIMEOUT)
        assert self.ledger.skew == self.SKEW
        self.ledger.recover()
        self.flying: tuple[int, float] | None = None
        self.vouched = False

    def vouch(self) -> bool:
        """What `Oracle` does: nobody vouches for a clock that is wrong."""
        if abs(self.time.offset) <= self.SKEW:
            with contextlib.suppress(ClockDoubt):
                self.ledger.open_window("test")
                self.vouched = True
                return True
        return False

    def reserve(self) -> int | None:
        for _ in range(3):
            if not self.vouched and not self.vouch():
                break
            try:
                attempt = self.ledger.reserve(IMAGE)
                assert self.time.now() >= self.locked_until
                return attempt
            except WindowNotOpen:
                self.vouched = False
            except TooSoon as exc:
                assert 0 < exc.wait <= 2 * self.SKEW
                self.time.sleep(exc.wait)
            except (BudgetSpent, LockedOut):
                break
        return None

    @precondition(lambda self: self.flying is None)
    @rule(beside=beside, wait=seconds)
    def send(self, beside: float | None, wait: float) -> None:
        """Reserve, and a while later send; often beside a reset, where the moments are that matter."""
        if beside is not None:
            self.time.true = max(self.time.true, self.PERIOD.window_at(self.time.true + 21).end + beside)
        attempt = self.reserve()
        if attempt is None:
            return
        self.time.true += wait
        try:
            self.ledger.mark_sent(attempt)
            self.flying = (attempt, self.time.true)
        except (WindowNotOpen, TooSoon, BudgetSpent, LockedOut):
            self.ledger.refund(attempt, "")

    @precondition(lambda self: self.flying is not None)
    @rule(how=st.sampled_from(["settle", "fail", "refund"]), server=servers, wait=seconds, timed=st.booleans())
    def close(self, how: str, server: ServerBudget | None, wait: float, timed: bool) -> None:
        assert self.flying is not None
        attempt, sent = self.flying
        self.time.true = max(self.time.true, min(self.time.true + wait, sent + self.TIMEOUT))
        self.flying = None
        before = self.ledger.budget()
        if how == "refund":
            self.ledger.refund(attempt, "")
            return
        self.flights.append((sent, self.time.true))
        took = self.time.true - sent if timed else None
        with self.ledger.turn() as turn:
            if how == "settle":
                turn.settle(attempt, ANSWER, server, 0, took)
            else:
                turn.close_unanswered(attempt, "", server, 0, took)
        after = self.ledger.budget()
        with self.database.snapshot() as tx:
            was_set = self.ledger._books.was_set(tx)  # then nobody knows which window this is
        assert was_set or after.resets_at > before.resets_at or after.remaining <= before.remaining

    @precondition(lambda self: self.flying is None)
    @rule(beside=beside, count=st.integers(1, 3))
    def spend(self, beside: float | None, count: int) -> None:
        """Queries that are answered at once."""
        for _ in range(count):
            self.send(beside, 0.0)
            beside = None
            if self.flying is not None:
                self.close("settle", None, 0.0, True)

    @precondition(lambda self: self.flying is None)
    @rule(until=st.floats(-20, 60))
    def lock_out(self, until: float) -> None:
        moment = self.ledger.lock_out(self.time.now() + until)
        assert moment > self.time.now() - 1
        self.locked_until = self.ledger.budget().locked_until or self.locked_until

    @precondition(lambda self: self.flying is None)
    @rule(wait=seconds)
    def time_passes(self, wait: float) -> None:
        self.time.true += wait

    @rule(offset=st.one_of(right, right, st.floats(-400, 400), st.just(-DAWN)))
    def clock_is_set(self, offset: float) -> None:
        self.time.offset = offset

    @rule(offset=st.none() | right | st.floats(-400, 400), halfway=st.booleans())
    def crash(self, offset: float | None, halfway: bool) -> None:
        """A power cut between two queries or in one; the clock then starts anywhere."""
        if self.flying is not None:
            self.flights.append((self.flying[1], self.flying[1] + self.TIMEOUT))
            self.time.true = max(self.time.true, self.flying[1] + self.TIMEOUT)
        elif halfway:
            self.reserve()  # and never sent
        self.time.offset = self.time.offset if offset is None else offset
        self.start_run()

    @invariant()
    def no_window_of_the_oracle_can_be_overspent(self) -> None:
        flights = [*self.flights, *([(self.flying[1], self.time.true)] if self.flying else [])]
        for moment in {m for flight in flights for m in flight}:
            window = self.PERIOD.window_at(moment)
            possible = sum(sent < window.end and closed >= window.start for sent, closed in flights)
            assert possible <= self.quota, f"{possible} queries between {window.start} and {window.end}"

    @invariant()
    def windows_do_not_go_back(self) -> None:
        newest = self.database.value("SELECT max(start) FROM budget_window")
        if newest is not None:
            assert float(str(newest)) >= self.newest
            assert float(str(newest)) <= self.time.true + self.SKEW, "none was opened before its time"
            self.newest = float(str(newest))

    def teardown(self) -> None:
        if hasattr(self, "resources"):
            self.resources.close()


Adversary.TestCase.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)
TestAdversary = Adversary.TestCase
