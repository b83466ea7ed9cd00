"""Quota windows tile time without gap or overlap, whatever the clock says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract.windows import DAY, Period, Window, iso, label, parse_period, parse_reset

periods = st.builds(Period, st.integers(1, 40 * DAY), st.integers(0, DAY - 1))
moments = st.floats(-1e5, 4e9, allow_nan=False)


@given(periods, moments)
def test_a_window_contains_its_moment_and_is_aligned(period: Period, t: float) -> None:
    window = period.window_at(t)
    assert window.contains(t)
    assert window.end - window.start == period.seconds
    assert (window.start - period.offset) % period.seconds == 0


@given(periods, moments)
def test_windows_join_without_gap(period: Period, t: float) -> None:
    window = period.window_at(t)
    assert not window.contains(window.end)
    assert period.window_at(window.end).start == window.end
    assert period.window_at(math.nextafter(window.start, -math.inf)).end == window.start


@given(periods, moments)
def test_waiting_the_rounded_up_seconds_reaches_the_next_window(period: Period, t: float) -> None:
    window = period.window_at(t)
    left = window.seconds_left(t)
    # Adding to a float may round down by one unit in the last place, never by more.
    assert math.nextafter(t + left, math.inf) >= window.end
    assert left - 1 < window.end - t


@given(st.integers(1, 366), st.sampled_from("smhd"))
def test_every_period_reads_as_written(number: int, unit: str) -> None:
    assert parse_period(f"{number}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": DAY}[unit]


@pytest.mark.parametrize("text", ["", "24", "h", "0s", "-1h", "1.5h", "24 h", "24H", "367d", "1h30m", "१h"])
def test_other_periods_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a period"):
        parse_period(text)


@pytest.mark.parametrize(("text", "seconds"), [("00:00", 0), ("03:30", 12600), ("23:59", DAY - 60)])
def test_a_reset_is_a_time_of_day(text: str, seconds: int) -> None:
    assert parse_reset(text) == seconds


@pytest.mark.parametrize("text", ["", "24:00", "3:30", "03:60", "0330", "03:30:00", "noon"])
def test_other_resets_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time of day"):
        parse_reset(text)


@pytest.mark.parametrize(("seconds", "offset"), [(0, 0), (-5, 0), (367 * DAY, 0), (60, -1), (60, DAY)])
def test_a_period_refuses_nonsense(seconds: int, offset: int) -> None:
    with pytest.raises(ValueError, match=r"period|reset"):
        Period(seconds, offset)


def test_labels_name_the_day_or_the_second() -> None:
    noon = 1795262440.0  # 2026-11-21T12:00:40Z
    day = Period(DAY)
    assert label(day.window_at(noon), day) == "2026-11-21"
    late = Period(DAY, parse_reset("13:00"))
    assert label(late.window_at(noon), late) == "2026-11-20"
    short = Period(20)
    assert label(short.window_at(noon + 7.9), short) == "2026-11-21T12:00:40Z"


def test_moments_are_written_in_utc() -> None:
    assert iso(0.9) == "1970-01-01T00:00:00Z"
    assert Window(0, 10).seconds_left(9.01) == 1
    assert Window(0, 10).seconds_left(11) == 0
