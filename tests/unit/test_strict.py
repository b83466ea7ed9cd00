"""Untrusted mappings become dataclasses or one-line errors that name the key."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract.strict import Mismatch, as_mapping, build


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int] = (1, 2)
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    limit: int | None = None
    free: dict = field(default_factory=dict)
    on: bool = False

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("that name is taken")


def test_a_dataclass_goes_round_through_plain_data():
    whole = Outer("x", ("a", "b"), Inner((3, 4), 0.25), 7, {"k": [1]}, True)
    assert build(Outer, as_mapping(whole)) == whole
    assert build(Outer, {"name": "x", "inner": {"rate": 1}}).inner.rate == 1.0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"nmae": "x"}, "did you mean 'name'"),
        ({}, "missing key 'name'"),
        ({"name": 3}, "'name': a text"),
        ({"name": "x", "names": "abc"}, "'names': a list"),
        ({"name": "x", "names": [1]}, r"'names\[0\]'"),
        ({"name": "x", "inner": {"size": [1]}}, "'inner.size': 2 entries"),
        ({"name": "x", "inner": {"size": [1, 2.5]}}, r"'inner.size\[1\]': a whole number"),
        ({"name": "x", "inner": {"rate": "fast"}}, "'inner.rate': a finite number"),
        ({"name": "x", "inner": {"rate": float("inf")}}, "'inner.rate': a finite number"),
        ({"name": "x", "inner": {"rate": 10**400}}, "'inner.rate': a finite number"),
        ({"name": "x", "inner": {"rate": float("nan")}}, "'inner.rate': a finite number"),
        ({"name": "x", "inner": {"rate": True}}, "'inner.rate': a finite number"),
        ({"name": "x", "inner": []}, "inner: a table"),
        ({"name": "x", "limit": "many"}, "'limit': a whole number"),
        ({"name": "x", "on": 1}, "'on': true or false"),
        ({"name": "x", "free": []}, "'free': a table"),
        ({"name": "bad"}, "that name is taken"),
        ([], "a table of keys"),
    ],
)
def test_what_does_not_fit_is_named(data: object, said: str):
    with pytest.raises(Mismatch, match=said):
        build(Outer, data)


@given(st.recursive(st.none() | st.text() | st.floats() | st.integers(), lambda x: st.dictionaries(st.text(), x)))
def test_nothing_but_mismatch_is_raised(data: object):
    try:
        build(Outer, data)
    except Mismatch:
        pass
    else:
        raise AssertionError("no random mapping is an Outer")
