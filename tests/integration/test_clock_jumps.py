"""Clocks that jump at the worst moment, found by the chaos: while a question is under way, or in a pause."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign, prepared
from tests.chaos.fate import Plan
from tests.chaos.inspection import inspect, windows
from tests.chaos.network import Weather

YEAR = 366 * 24 * 60 * 60.0


def campaign_of(tmp_path: Path, plan: Plan) -> Iterator[Campaign]:
    with prepared(plan, tmp_path / "home", lambda: None) as (campaign, _):
        campaign.machine.add(0, 5)
        yield campaign


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Campaign]:
    """A home with a period of a day."""
    yield from campaign_of(tmp_path, Plan(1, 1, quota=20, server_quota=1000, period=24 * 60 * 60, timeout=30))


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Campaign]:
    """A home with a period of 20 seconds and one query in each, and a server that would give more."""
    yield from campaign_of(tmp_path, Plan(1, 1, quota=1, server_quota=50, period=20, timeout=30))


def started(campaign: Campaign, *arguments: object) -> subprocess.Popen[bytes]:
    """A run whose first question is under way; it waits there as long as `hold` says."""
    campaign.network.begin(Weather(latency=0.0))
    process = campaign.machine.start("collect", "--json", *arguments)
    while campaign.network.arrived < 1:
        assert process.poll() is None, campaign.machine.ended(process)
        time.sleep(0.005)
    return process


def test_a_leap_of_a_year_under_a_question_costs_no_query_of_the_year(day: Campaign) -> None:
    leapt = [False]
    day.network.hold = lambda: wait_until(lambda: leapt[0])
    process = started(day, "--limit", 1)
    day.machine.set_clock(YEAR)
    leapt[0] = True
    process.wait()
    after = inspect(day.machine.home)
    assert after.settled == 1
    assert after.latest < time.time() + 2 * 24 * 60 * 60, "nobody vouched for the year: the ledger must not speak of it"


def test_a_fall_to_1970_in_a_pause_does_not_put_the_agent_to_sleep_for_56_years(day: Campaign) -> None:
    def lose() -> None:
        raise ConnectionError

    day.network.hold = lose
    process = started(day)
    wait_until(lambda: "retry" in (day.machine.folder / "stderr").read_text())
    day.machine.set_clock(1000.0 - time.time())
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        pytest.fail("a pause of half a second has not ended after a minute")
    assert day.machine.ended(process).code == 69, "the clock is in doubt"


def test_a_clock_that_falls_back_under_a_question_does_not_hide_the_reset(short: Campaign) -> None:
    period = short.plan.period
    wait_until(lambda: time.time() % period < 4)
    reset = (time.time() // period + 1) * period
    short.network.hold = lambda: wait_until(lambda: time.time() > reset + 3)
    process = started(short, "--limit", 1)
    sent = time.time()
    wait_until(lambda: time.time() > reset + 1)
    short.machine.set_clock(sent + 0.5 - time.time())  # it shows a time after the question, and long before the reset
    process.wait()
    short.machine.set_clock(0.0)
    short.network.hold = lambda: None
    short.network.begin(Weather(latency=0.0))
    short.machine.run("collect")
    counted = {start: n for start, (n, _) in windows(short.store).items()}
    assert max(counted.values()) <= short.plan.quota, "the question was counted after the reset"


def wait_until(true: Callable[[], bool]) -> None:

    while not true():
        time.sleep(0.005)
