"""Other people's answers become ours or are refused: no form, no order and no junk ever gives a wrong answer."""

from __future__ import annotations

import base64
import contextlib
import email
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract.answers import SUM_TOLERANCE, Answer, BadAnswer, parse_answer
from pi_agent.contract.errors import ConfigError
from pi_agent.http_config import HttpConfig
from pi_agent.transports.mapping import read_payload, request_body, request_headers

JPEG = b"\xff\xd8 any bytes \x00\xff"
ABC = ("a", "b", "c")
OWN = HttpConfig()
LIST = HttpConfig(result="list", scores="predictions.0", class_names=ABC)
NAMED_LIST = HttpConfig(result="list", scores="out.scores", classes="out.names")
CHECKED_LIST = HttpConfig(result="list", scores="out.scores", classes="out.names", class_names=ABC)
MAPPING = HttpConfig(result="mapping", scores="data.scores", scale=100)
OBJECTS = HttpConfig(result="objects", class_names=ABC)
DEEP_OBJECTS = HttpConfig(result="objects", scores="0.tags", label="tag.name", score="confidence", scale=100)
LABEL = HttpConfig(result="label", label="result.class", class_names=ABC)
FORMS = {
    "own": OWN,
    "list": LIST,
    "named list": NAMED_LIST,
    "checked list": CHECKED_LIST,
    "mapping": MAPPING,
    "objects": OBJECTS,
    "deep objects": DEEP_OBJECTS,
    "label": LABEL,
}


def read(http: HttpConfig, value: object, known: tuple[str, ...] | None = None) -> Answer:
    """What the agent makes of this JSON value."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_answer(read_payload(http, body), known)


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_raw_body_is_the_picture_itself() -> None:
    assert request_body(OWN, JPEG) == (JPEG, "image/jpeg")


def test_a_json_body_holds_the_picture_where_the_template_says() -> None:
    fields = {"instances": [{"b64": "data:image/jpeg;base64,{image}"}], "model": "wäste", "top": 3, "deep": {"x": True}}
    body, content_type = request_body(HttpConfig(body="json-base64", fields=fields), JPEG)
    sent = json.loads(body)
    prefix, _, picture = sent["instances"][0].pop("b64").partition(",")
    assert (prefix, base64.b64decode(picture), content_type) == ("data:image/jpeg;base64", JPEG, "application/json")
    assert sent == {"instances": [{}], "model": "wäste", "top": 3, "deep": {"x": True}}


def test_a_multipart_body_is_a_form_with_one_file() -> None:
    body, content_type = request_body(HttpConfig(body="multipart", fields={"model": "x", "file": "{image}"}), JPEG)
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = {p.get_param("name", header="content-disposition"): p for p in message.get_payload()}
    assert set(parts) == {"model", "file"}
    assert parts["model"].get_payload(decode=True) == b"x"
    assert parts["file"].get_filename() == "image.jpg" and parts["file"].get_content_type() == "image/jpeg"
    assert JPEG in body


def test_the_key_goes_where_the_headers_want_it() -> None:
    assert request_headers(OWN, "s3cret") == {"Authorization": "Bearer s3cret"}
    assert request_headers(OWN, None) == {}
    wanted = HttpConfig(headers={"X-Api-Key": "{key}", "X-Model": "waste"})
    assert request_headers(wanted, "s3cret") == {"X-Api-Key": "s3cret", "X-Model": "waste"}
    assert request_headers(HttpConfig(headers={"Authorization": "Token {key}"}), "k") == {"Authorization": "Token k"}
    plain = HttpConfig(headers={"X-Model": "waste"})
    assert request_headers(plain, "k") == {"X-Model": "waste", "Authorization": "Bearer k"}


def test_headers_that_want_a_key_are_not_sent_without_one() -> None:
    with pytest.raises(ConfigError, match="API key") as caught:
        request_headers(HttpConfig(headers={"X-Api-Key": "{key}"}), None)
    assert caught.value.exit_code == 78 and "api_key_file" in caught.value.advice


# -- what is understood ------------------------------------------------------------------------------------------------


def objects(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    """The form of HuggingFace."""
    return [{"label": name, "score": score} for name, score in pairs]


GOOD = {
    "own": (OWN, {"classes": list(ABC), "scores": [0.2, 0.5, 0.3], "more": 1}),
    "list": (LIST, {"predictions": [[0.2, 0.5, 0.3]]}),
    "whole list": (HttpConfig(result="list", class_names=ABC), [0.2, 0.5, 0.3]),
    "named list": (NAMED_LIST, {"out": {"scores": [0.2, 0.5, 0.3], "names": list(ABC)}}),
    "checked list": (CHECKED_LIST, {"out": {"scores": [0.2, 0.5, 0.3], "names": list(ABC)}}),
    "mapping": (MAPPING, {"data": {"scores": {"c": 30, "a": 20.0, "b": 50}}}),
    "objects": (OBJECTS, objects(("b", 0.5), ("c", 0.3), ("a", 0.2))),
    "deep objects": (
        DEEP_OBJECTS,
        [{"tags": [{"tag": {"name": n}, "confidence": s} for n, s in (("c", 30), ("b", 50), ("a", 20))]}],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_form_of_scores_gives_the_same_answer(name: str) -> None:
    answer = read(*GOOD[name])
    assert (answer.kind, answer.classes, answer.label) == ("scores", ABC, "b")
    np.testing.assert_allclose(answer.vector, [0.2, 0.5, 0.3], rtol=1e-6)


def test_a_label_alone_is_an_answer_too() -> None:
    for answer in (
        read(LABEL, {"result": {"class": "b", "certainty": "high"}}),
        read(OWN, {"classes": list(ABC), "label": "b"}),
        read(HttpConfig(result="label", label="", class_names=ABC), "b"),
    ):
        assert (answer.kind, answer.classes, answer.vector.tolist()) == ("label", ABC, [0, 1, 0])


def test_the_order_is_that_of_class_names_else_of_the_alphabet() -> None:
    best_first = objects(("b", 0.5), ("c", 0.3), ("a", 0.2))
    turned = HttpConfig(result="objects", class_names=("c", "a", "b"))
    assert read(turned, best_first).classes == ("c", "a", "b")
    np.testing.assert_allclose(read(turned, best_first).vector, [0.3, 0.2, 0.5], rtol=1e-6)
    assert read(HttpConfig(result="objects"), best_first, ABC).classes == ABC


def out(scores: object, names: object) -> dict[str, Any]:
    return {"out": {"scores": scores, "names": names}}


BAD: dict[str, tuple[HttpConfig, object]] = {
    "own: list": (OWN, [1, 2]),
    "own: neither scores nor label": (OWN, {"classes": list(ABC)}),
    "own: label unknown": (OWN, {"classes": list(ABC), "label": "d"}),
    "own: label a number": (OWN, {"classes": list(ABC), "label": 1}),
    "own: scores broken, label good": (OWN, {"classes": list(ABC), "scores": [1], "label": "a"}),
    "list: nothing there": (LIST, {"predictions": []}),
    "list: other keys": (LIST, {"prediction": [[0.2, 0.5, 0.3]]}),
    "list: too short": (LIST, {"predictions": [[0.5, 0.5]]}),
    "list: too long": (LIST, {"predictions": [[0.2, 0.5, 0.3, 0.0]]}),
    "list: not a list": (LIST, {"predictions": [{"a": 0.2, "b": 0.5, "c": 0.3}]}),
    "list: a text": (LIST, {"predictions": ["abc"]}),
    "list: logits": (LIST, {"predictions": [[2.0, -1.0, 0.5]]}),
    "list: per cent without scale": (LIST, {"predictions": [[20, 50, 30]]}),
    "list: NaN": (LIST, b'{"predictions": [[NaN, 0.5, 0.5]]}'),
    "list: beyond floats": (LIST, b'{"predictions": [[1e400, 0, 0]]}'),
    "list: a huge whole number": (LIST, b'{"predictions": [[1%s, 0, 0]]}' % (b"0" * 4000)),
    "list: a huger one": (LIST, b'{"predictions": [[1%s, 0, 0]]}' % (b"0" * 9000)),
    "list: true": (LIST, {"predictions": [[True, 0, 0]]}),
    "list: two lists": (LIST, b'{"predictions": [[1, 0, 0]], "predictions": [[0, 1, 0]]}'),
    "checked list: swapped": (CHECKED_LIST, out([0.2, 0.5, 0.3], ["b", "a", "c"])),
    "checked list: no names": (CHECKED_LIST, {"out": {"scores": [0.2, 0.5, 0.3]}}),
    "named list: no names": (NAMED_LIST, out([0.2, 0.5, 0.3], None)),
    "named list: names twice": (NAMED_LIST, out([0.2, 0.5, 0.3], ["a", "a", "c"])),
    "mapping: a class twice": (MAPPING, b'{"data": {"scores": {"a": 0, "b": 50, "a": 50}}}'),
    "mapping: shares instead of per cent": (MAPPING, {"data": {"scores": {"a": 0.2, "b": 0.5, "c": 0.3}}}),
    "mapping: negative": (MAPPING, {"data": {"scores": {"a": 150, "b": -50}}}),
    "mapping: huge": (MAPPING, b'{"data": {"scores": {"a": 1%s, "b": 0}}}' % (b"0" * 400)),
    "mapping: one class": (MAPPING, {"data": {"scores": {"a": 100}}}),
    "mapping: a list": (MAPPING, {"data": {"scores": [20, 50, 30]}}),
    "objects: only the best": (OBJECTS, objects(("b", 0.9), ("c", 0.1))),
    "objects: one more": (OBJECTS, objects(("a", 0.2), ("b", 0.5), ("c", 0.3), ("d", 0.0))),
    "objects: a class twice": (OBJECTS, objects(("a", 0.0), ("b", 0.5), ("c", 0.3), ("a", 0.2))),
    "objects: no score": (OBJECTS, [{"label": "a"}, *objects(("b", 0.5), ("c", 0.5))]),
    "objects: a label that is none": (OBJECTS, objects(("a", 0.2), ("b", 0.5), (["c"], 0.3))),
    "objects: not objects": (OBJECTS, [1, "a", None]),
    "objects: an object": (OBJECTS, {"label": "a", "score": 1.0}),
    "label: unknown": (LABEL, {"result": {"class": "d"}}),
    "label: an index": (LABEL, {"result": {"class": 1}}),
    "label: a list": (LABEL, {"result": {"class": ["a"]}}),
    "label: none": (LABEL, {"result": {}}),
    "HTML": (OBJECTS, b"<html>"),
    "no UTF-8": (OBJECTS, b'[{"label": "\xff"}]'),
    "deep": (OBJECTS, b"[" * 100_000),
    "empty": (OBJECTS, b""),
}


@pytest.mark.parametrize("name", BAD)
def test_whatever_is_not_of_the_form_is_refused(name: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        read(*BAD[name])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["mapping", "objects", "deep objects", "named list"])
def test_other_classes_than_before_are_refused_in_every_form(name: str) -> None:
    for known in (("a", "b"), ("a", "c", "b"), ("a", "b", "d")):
        with pytest.raises(BadAnswer):
            read(*GOOD[name], known)


# -- what hypothesis makes up ------------------------------------------------------------------------------------------

words = st.sampled_from(
    ["a", "b", "c", "d", "out", "scores", "names", "predictions", "data", "label", "result", "class"]
)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, 0.5, 100, 1e308, 10**400, -0.0]))
junk = st.recursive(
    st.none() | st.booleans() | numbers | words | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=16,
)


def believable(answer: Answer) -> bool:
    """True of everything that may be stored."""
    total = float(answer.vector.sum(dtype=np.float64))
    return (
        answer.vector.dtype == np.float32
        and answer.vector.shape == (len(answer.classes),)
        and len(set(answer.classes)) == len(answer.classes) >= 2
        and bool(np.isfinite(answer.vector).all() and (answer.vector >= 0).all())
        and abs(total - 1) <= SUM_TOLERANCE + 1e-6
        and (answer.kind == "scores" or sorted(answer.vector.tolist())[-2:] == [0, 1])
    )


@given(name=st.sampled_from(sorted(FORMS)), value=junk, known=st.sampled_from([None, ABC]))
def test_no_json_at_all_gives_anything_but_a_checked_answer_or_bad_answer(name: str, value: Any, known: Any) -> None:
    try:
        answer = read(FORMS[name], value, known)
    except BadAnswer:
        return
    assert believable(answer)
    assert known is None or answer.classes == known


@given(name=st.sampled_from(sorted(FORMS)), body=st.binary(max_size=60))
def test_no_bytes_at_all_do_either(name: str, body: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        assert believable(read(FORMS[name], body))


names_told = st.lists(st.sampled_from(["a", "b", "c", "d", "\x1b", ""]), min_size=1, max_size=5) | st.permutations(ABC)
scores_told = st.lists(numbers, max_size=5) | st.permutations([0.2, 0.5, 0.3])


@given(names=names_told, scores=scores_told, name=st.sampled_from(["own", "checked list", "mapping", "objects"]))
def test_nearly_good_answers_never_give_a_class_the_score_of_another(names: list[str], scores: list, name: str) -> None:
    pairs = list(zip(names, scores, strict=False))
    percents = ", ".join(f"{json.dumps(n)}: {json.dumps(s * 100 if isinstance(s, float) else s)}" for n, s in pairs)
    said: dict[str, tuple[object, float]] = {
        "own": ({"classes": names, "scores": scores}, 1),
        "checked list": (out(scores, names), 1),
        "mapping": (f'{{"data": {{"scores": {{{percents}}}}}}}'.encode(), 100),
        "objects": (objects(*pairs), 1),
    }
    value, scale = said[name]
    try:
        answer = read(FORMS[name], value, ABC)
    except BadAnswer:
        return
    assert believable(answer) and answer.classes == ABC
    assert sorted(names[: len(pairs)]) == sorted(ABC), "every class once"
    for label, score in pairs:
        share = score if scale == 1 or isinstance(score, float) else score / scale
        assert answer.vector[ABC.index(label)] == pytest.approx(float(share), rel=1e-6)
