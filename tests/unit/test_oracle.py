"""Asking one image: cache, ledger, transport and retries together, with a scripted oracle behind the seam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from pi_agent.contract.answers import ServerBudget
from pi_agent.contract.errors import MagpieError
from pi_agent.contract.images import QueryImage
from pi_agent.errors import BudgetSpent, ClockDoubt, LockedOut, NotAuthorised, OracleFailing, Unreachable
from pi_agent.oracle import NoAnswer, Oracle
from pi_agent.store.db import Database
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger
from pi_agent.transports.base import (
    Failed,
    Garbled,
    ImageRefused,
    LockOut,
    NotSent,
    Probe,
    Reply,
    Throttled,
    Unauthorised,
)
from tests.support_time import IMAGE, FakeTime, ledger_of, quick_database

PICTURE = QueryImage(b"jpeg", IMAGE)
GOOD = Reply({"classes": ["a", "b"], "scores": [0.25, 0.75]}, None)


@dataclass
class Script:
    """An oracle that does what the list says, one entry for each question; then it is good for ever."""

    time: FakeTime
    answers: list[Reply | BaseException] = field(default_factory=list)
    probes: list[Probe | BaseException] = field(default_factory=list)
    url: str = "script://"
    asked: int = 0
    probed: int = 0

    def ask(self, jpeg: bytes) -> Reply:
        self.asked += 1
        return self._next(self.answers, GOOD)

    def probe(self) -> Probe:
        self.probed += 1
        return self._next(self.probes, Probe(float(int(self.time.true)), None))

    def close(self) -> None: ...

    @staticmethod
    def _next(script: list, default: object):
        entry = script.pop(0) if script else default
        if isinstance(entry, BaseException):
            raise entry
        return entry


@dataclass
class Scene:
    """Everything behind one oracle. `run()` is a new run: a new `Oracle` on the same ledger."""

    time: FakeTime
    script: Script
    ledger: Ledger
    labels: Labels

    def run(self, attempts: int = 3) -> Oracle:
        self.ledger.recover()
        return Oracle(self.ledger, self.labels, lambda: self.script, self.time.clock, attempts, jitter=lambda: 1.0)

    @property
    def spent(self) -> int:
        return self.ledger.budget().spent


@pytest.fixture
def database() -> Iterator[Database]:
    with quick_database() as opened:
        yield opened


@pytest.fixture
def scene(database: Database) -> Scene:
    time = FakeTime(1_000_020.25)
    return Scene(time, Script(time), ledger_of(database, time, quota=9), Labels(database, "o"))


def test_the_second_time_the_answer_comes_from_the_cache(scene: Scene) -> None:
    oracle = scene.run()
    first, cached = oracle.ask(PICTURE)
    assert (first.label, cached, oracle.sent, scene.spent) == ("b", False, 1, 1)
    second, cached = scene.run().ask(PICTURE)
    assert (second.label, cached, scene.script.asked, scene.spent) == ("b", True, 1, 1)
    oracle.ask(PICTURE, fresh=True)
    assert (scene.script.asked, scene.spent, scene.labels.count()) == (2, 2, 2)


# -- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong_by", [-9.0, -5.0, 0.0, 5.0, 9.0])
def test_an_oracle_that_agrees_about_the_time_opens_the_window(scene: Scene, wrong_by: float) -> None:
    scene.time.offset = wrong_by
    scene.run().ask(PICTURE)
    assert scene.spent == 1


@pytest.mark.parametrize("wrong_by", [-1_000_000.0, -3600.0, -11.0, 11.0, 3600.0, 86400.0 * 3650])
def test_one_that_disagrees_does_not_and_nothing_is_asked(scene: Scene, wrong_by: float) -> None:
    scene.time.offset = wrong_by
    with pytest.raises(ClockDoubt) as caught:
        scene.run().ask(PICTURE)
    assert caught.value.exit_code == 69 and "says 1970-01-12" in str(caught.value)
    scene.time.offset = 0
    assert (scene.script.asked, scene.spent) == (0, 0)
    scene.run().ask(PICTURE)


def test_one_that_tells_no_time_needs_a_synchronized_clock(scene: Scene) -> None:
    scene.script.probes = [Probe(None, None), Probe(None, None)]
    with pytest.raises(ClockDoubt):
        scene.run().ask(PICTURE)
    scene.time.flag = True
    scene.run().ask(PICTURE)
    assert (scene.script.asked, scene.spent) == (1, 1)


def test_a_probe_that_takes_too_long_proves_nothing(scene: Scene) -> None:
    class Slow(Script):
        def probe(self) -> Probe:
            self.time.true += 15
            return Probe(float(int(self.time.true)), None)

    scene.script = Slow(scene.time)
    with pytest.raises(ClockDoubt):
        scene.run().ask(PICTURE)


def test_every_run_asks_the_time_again_for_a_pi_that_was_off_wakes_up_yesterday(scene: Scene) -> None:
    scene.run().ask(PICTURE)
    scene.time.true += 100
    scene.time.offset = -100
    with pytest.raises(ClockDoubt):
        scene.run().ask(PICTURE, fresh=True)
    assert (scene.script.asked, scene.spent) == (1, 1)


def test_a_run_that_goes_on_past_the_reset_opens_the_next_window(scene: Scene) -> None:
    oracle = scene.run()
    oracle.ask(PICTURE)
    scene.time.true += 100
    oracle.ask(PICTURE, fresh=True)
    assert (scene.script.probed, scene.spent) == (2, 1)


def test_a_new_window_is_waited_for_while_the_old_one_may_last(scene: Scene) -> None:
    oracle = scene.run()
    for _ in range(9):
        oracle.ask(PICTURE, fresh=True)
    with pytest.raises(BudgetSpent):
        oracle.ask(PICTURE, fresh=True)
    scene.time.true = 1_000_104.0
    oracle.ask(PICTURE, fresh=True)
    assert scene.time.true == 1_000_110.0 and scene.spent == 1


# -- what the oracle does ----------------------------------------------------------------------------------------------


def test_every_retry_is_a_spent_query_and_comes_after_a_longer_pause(scene: Scene) -> None:
    scene.script.answers = [Failed("reset"), Failed("HTTP 500")]
    oracle = scene.run()
    assert oracle.ask(PICTURE)[0].label == "b"
    assert (oracle.sent, scene.spent, scene.time.slept) == (3, 3, [0.5, 1.0])


def test_after_the_last_attempt_the_image_has_no_answer(scene: Scene) -> None:
    scene.script.answers = [Failed("reset")] * 9
    with pytest.raises(NoAnswer) as caught:
        scene.run(attempts=2).ask(PICTURE)
    assert not caught.value.permanent
    assert (scene.script.asked, scene.spent) == (2, 2)
    with pytest.raises(NoAnswer):
        scene.run().ask(PICTURE, at_most=1)
    assert (scene.script.asked, scene.spent) == (3, 3)


def test_what_was_never_sent_is_not_spent(scene: Scene) -> None:
    scene.script.answers = [NotSent("refused")] * 3
    oracle = scene.run()
    with pytest.raises(Unreachable) as caught:
        oracle.ask(PICTURE)
    assert caught.value.exit_code == 69
    assert (oracle.sent, scene.spent, scene.ledger.budget().refunded) == (0, 0, 3)


def test_a_short_throttle_is_waited_for_and_a_long_one_is_a_lock_out(scene: Scene) -> None:
    scene.script.answers = [Throttled("slow down", 7.0)]
    scene.run().ask(PICTURE)
    assert scene.time.slept == [7.0] and scene.spent == 2
    scene.script.answers = [Throttled("slow down", 500.0)]
    with pytest.raises(LockedOut):
        scene.run().ask(PICTURE, fresh=True)
    with pytest.raises(LockedOut):
        scene.run().ask(PICTURE, fresh=True)
    assert scene.script.asked == 3


def test_a_lock_out_ends_it_for_this_window(scene: Scene) -> None:
    scene.script.answers = [LockOut("HTTP 403", None)]
    for _ in range(2):
        with pytest.raises(LockedOut):
            scene.run().ask(PICTURE)
    assert scene.script.asked == 1
    scene.time.true += 100
    scene.run().ask(PICTURE)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (Garbled("HTML"), NoAnswer),
        (Reply({"classes": ["a", "b"], "scores": [0.9, 0.9]}, None), NoAnswer),
        (Reply({}, None), NoAnswer),
        (ImageRefused("HTTP 422"), NoAnswer),
        (Unauthorised("HTTP 401"), NotAuthorised),
    ],
)
def test_what_trying_again_would_not_mend_is_tried_once(scene: Scene, said: object, error: type[Exception]) -> None:
    scene.script.answers = [said]
    with pytest.raises(error) as caught:
        scene.run().ask(PICTURE)
    assert (scene.script.asked, scene.spent, scene.labels.count()) == (1, 1, 0)
    assert getattr(caught.value, "permanent", None) is (isinstance(said, ImageRefused) if error is NoAnswer else None)


def test_answers_must_keep_the_classes_of_the_first(scene: Scene) -> None:
    scene.run().ask(PICTURE)
    scene.script.answers = [Reply({"classes": ["b", "a"], "scores": [0.5, 0.5]}, None)]
    with pytest.raises(NoAnswer):
        scene.run().ask(PICTURE, fresh=True)
    assert scene.labels.classes() == ("a", "b") and scene.labels.count() == 1


@pytest.mark.parametrize(
    ("said", "error", "code"),
    [
        (NotSent("refused"), Unreachable, 69),
        (Failed("timeout"), Unreachable, 69),
        (Garbled("flood"), OracleFailing, 69),
        (Unauthorised("HTTP 401"), NotAuthorised, 77),
        (LockOut("HTTP 403", None), LockedOut, 75),
    ],
)
def test_a_probe_that_fails_costs_nothing(scene: Scene, said: Exception, error: type[MagpieError], code: int) -> None:
    scene.script.probes = [said] * 9
    with pytest.raises(error) as caught:
        scene.run().ask(PICTURE)
    assert caught.value.exit_code == code
    assert (scene.script.asked, scene.spent) == (0, 0)


def test_what_the_oracle_says_is_left_is_heard_before_the_first_question(scene: Scene) -> None:
    scene.script.probes = [Probe(float(int(scene.time.true)), ServerBudget(1, 79.75))]
    oracle = scene.run()
    oracle.ask(PICTURE)
    with pytest.raises(BudgetSpent):
        oracle.ask(PICTURE, fresh=True)
    assert scene.script.asked == 1


def test_an_interruption_leaves_the_query_spent(scene: Scene) -> None:
    scene.script.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        scene.run().ask(PICTURE)
    assert scene.ledger.recover() == (0, 1)
    assert scene.spent == 1
