"""An oracle's answer is believed only when it cannot be wrong in form."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract.answers import Answer, BadAnswer, as_json_list, parse_scores

GOOD = {"classes": ["a", "b", "c"], "scores": [0.2, 0.5, 0.3]}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def test_a_good_answer_is_taken_as_it_is():
    answer = parse_scores(GOOD)
    assert answer.classes == ("a", "b", "c") and answer.label == "b" and answer.kind == "scores"
    assert answer.vector.dtype == np.float32 and answer.vector.tolist() == pytest.approx([0.2, 0.5, 0.3])


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [0.2, 0.5]},
        {"scores": [0.2, 0.5, 0.3, 0.0]},
        {"scores": [0.9, 0.5, 0.3]},
        {"scores": [-0.1, 0.8, 0.3]},
        {"scores": [float("nan"), 0.5, 0.5]},
        {"scores": [True, 0, 0]},
        {"scores": [10**400, 0, 0]},
        {"scores": [float("inf"), 0.5, 0.5]},
        {"scores": [1e308, 1e308, -1e308]},
        {"classes": ["\x1b[2J", "b", "c"]},
        {"classes": ["\ud800", "b", "c"]},
        {"classes": ["a\n<3>forged log line", "b", "c"]},
        {"classes": ["a" * 201, "b", "c"]},
        {"classes": [str(i) for i in range(5000)], "scores": [1 / 5000] * 5000},
        {"scores": ["1", 0, 0]},
        {"scores": None},
        {"classes": ["a", "a", "b"]},
        {"classes": ["a", "b", 3]},
        {"classes": ["a", "b", ""]},
        {"classes": ["a"], "scores": [1.0]},
        {"classes": [], "scores": []},
        {"classes": "abc"},
    ],
)
def test_whatever_is_no_score_vector_is_refused(change: dict):
    with pytest.raises(BadAnswer):
        parse_scores({**GOOD, **change})


@pytest.mark.parametrize("other", [("a", "b"), ("a", "c", "b"), ("a", "b", "d"), ("a", "b", "c", "d")])
def test_other_classes_than_the_oracle_had_before_are_refused(other: tuple):
    with pytest.raises(BadAnswer, match="classes"):
        parse_scores(GOOD, other)


@given(st.dictionaries(st.sampled_from(["classes", "scores", "x"]), json_values))
def test_hostile_answers_give_a_valid_answer_or_bad_answer_and_nothing_else(payload: dict):
    try:
        answer = parse_scores(payload)
    except BadAnswer:
        return
    assert isinstance(answer, Answer) and len(answer.classes) == len(answer.vector) >= 2
    assert np.isfinite(answer.vector).all() and abs(float(answer.vector.sum()) - 1) < 0.03


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_float32_survives_json_to_the_last_bit(values: list):
    vector = np.asarray(values, dtype=np.float32)
    back = np.asarray(json.loads(json.dumps(as_json_list(vector))), dtype=np.float32)
    assert np.array_equal(vector, back)
