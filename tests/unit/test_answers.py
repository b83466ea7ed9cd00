"""An oracle's answer is believed only when it cannot be wrong in form."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract.answers import Answer, BadAnswer, as_json_list, parse_answer, parse_scores

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


def test_a_label_becomes_a_vote_and_several_become_shares():
    votes = [parse_answer({"classes": ["a", "b", "c"], "label": label}) for label in ("b", "b", "c", "b")]
    assert all(v.kind == "label" and v.vector.dtype == np.float32 for v in votes)
    assert [v.label for v in votes] == ["b", "b", "c", "b"] and votes[0].vector.tolist() == [0, 1, 0]
    assert np.mean([v.vector for v in votes], axis=0).tolist() == [0, 0.75, 0.25]


def test_scores_count_where_a_label_stands_beside_them():
    answer = parse_answer({**GOOD, "label": "a"})
    assert answer.kind == "scores" and answer.label == "b"


@pytest.mark.parametrize(
    "payload",
    [
        {"classes": ["a", "b"], "label": "c"},
        {"classes": ["a", "b"], "label": ""},
        {"classes": ["a", "b"], "label": 0},
        {"classes": ["a", "b"], "label": True},
        {"classes": ["a", "b"], "label": None},
        {"classes": ["a", "b"], "label": ["a"]},
        {"classes": ["a", "a"], "label": "a"},
        {"classes": ["a"], "label": "a"},
        {"classes": "ab", "label": "a"},
        {"classes": {"a": 1, "b": 2}, "label": "a"},
        {"classes": ["\x1b[2J", "b"], "label": "b"},
        {"classes": [str(i) for i in range(5000)], "label": "1"},
        {"classes": ["a", "b"], "scores": None, "label": "a"},
        {"label": "a"},
        {},
    ],
)
def test_whatever_is_no_label_is_refused(payload: dict):
    with pytest.raises(BadAnswer):
        parse_answer(payload)


@pytest.mark.parametrize("other", [("a", "b"), ("a", "c", "b"), ("a", "b", "d"), ("a", "b", "c", "d")])
def test_a_label_of_other_classes_than_before_is_refused(other: tuple):
    with pytest.raises(BadAnswer, match="classes"):
        parse_answer({"classes": ["a", "b", "c"], "label": "a"}, other)


@given(st.dictionaries(st.sampled_from(["classes", "scores", "label", "x"]), json_values))
def test_hostile_answers_give_a_valid_answer_or_bad_answer_and_nothing_else(payload: dict):
    try:
        answer = parse_answer(payload)
    except BadAnswer:
        return
    assert isinstance(answer, Answer) and len(answer.classes) == len(answer.vector) >= 2
    assert np.isfinite(answer.vector).all() and abs(float(answer.vector.sum()) - 1) < 0.03


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_float32_survives_json_to_the_last_bit(values: list):
    vector = np.asarray(values, dtype=np.float32)
    back = np.asarray(json.loads(json.dumps(as_json_list(vector))), dtype=np.float32)
    assert np.array_equal(vector, back)
