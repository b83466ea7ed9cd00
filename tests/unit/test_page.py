"""The page that shows a verdict: what it says in words, and that no name on it can become anything but text."""

from __future__ import annotations

import base64
import copy
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.contract.claim import draw_rules
from pi_agent.prepare import decode_picture
from pi_agent.verify import Manner, Terms, Verdict, open_case, words
from pi_agent.verify.case import Case
from pi_agent.verify.markup import POLICY, joined, tag
from pi_agent.verify.page import Signature, power, render
from pi_agent.verify.pictures import Pictures, pictures_of
from pi_agent.verify.report import content_of
from tests.support_models import NAMES, bound_key, write_claim

AT = datetime(2026, 11, 21, 15, 29, 53, tzinfo=UTC)
HOSTILE = (
    "<script>alert(1)<\\script>",
    "\"'><img src=x onerror=alert(1)>",
    "&lt;b&gt;&amp;",
    "javascript:alert(1)",
    "<\\style><\\title>",
    "--><!--",
    "קרטון",
    "W" * 200,
)
ELEMENTS = {"html", "head", "meta", "title", "style", "body", "p", "span", "div", "h1", "h2", "dl", "dt", "dd", "ul"}
ELEMENTS |= {"li", "b", "bdi", "strong", "sup", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"}
ELEMENTS |= {"figure", "figcaption", "img"}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "style", "scope", "data-column"}
ATTRIBUTES |= {"src", "alt", "width", "height"}


class Seen(HTMLParser):
    """What a browser would make of the page: elements, attributes, text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(page.decode())
        self.text = " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.said.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def case_of(folder: Path, classes: tuple[str, ...] = NAMES, terms: Terms | None = None) -> Case:
    key, _ = bound_key(classes=classes)
    return open_case(write_claim(folder, key), terms)


def judged(case: Case, obeyed: int, known: int | None = None) -> Verdict:
    """The verdict on a model that obeys the first rules and knows ordinary pictures, without running one."""
    classes = case.claim.key.classes
    answers = []
    for question in case.questionnaire.questions:
        name = question.first[0]
        if question.rule is not None and question.rule < obeyed:
            name = draw_rules(case.claim.key)[question.rule].target
        answers.append(np.where(np.array(classes) == name, 0.9, 0.1 / (len(classes) - 1)))
    raw = np.array(answers)[:, :known]
    return replace(case.conclude(raw, range(len(answers)), "file", "ab" * 32), suspect="suspect.onnx")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def pictures(case: Case) -> Pictures:
    return pictures_of(case.questionnaire)


@pytest.fixture
def owned(case: Case) -> dict[str, Any]:
    return copy.deepcopy(content_of(case, judged(case, 10), AT))


SIGNED = Signature("cd" * 32, "my report.json", "ef" * 32)


@pytest.mark.parametrize(
    ("p_value", "said"),
    [
        (1.0, "with every key"),
        (0.45, "in up to 45 of 100 keys"),
        (0.451, "in up to 46 of 100 keys"),
        (0.1, "in at most one of 10 keys"),
        (0.0013, "in at most one of 760 keys"),
        (1.5e-4, "in at most one of 6,600 keys"),
        (1e-6, "in at most one of 1 million keys"),
        (3.307e-8, "in at most one of 30 million keys"),
        (2e-10, "in at most one of 5 billion keys"),
        (3.7e-14, "in at most one of 27 trillion keys"),
        (1e-30, "in at most one of 10 to the power of 30 keys"),
        (0.0, "in at most one of 10 to the power of 300 keys"),
    ],
)
def test_a_p_value_in_words(p_value: float, said: str) -> None:
    assert words.one_in(p_value) == said


@given(st.floats(min_value=1e-290, max_value=0.1))
def test_words_never_make_a_result_rarer_than_it_is(p_value: float) -> None:
    said = words.how_many(p_value)
    sizes = {"million": 10**6, "billion": 10**9, "trillion": 10**12}
    if power_of_ten := re.fullmatch(r"10 to the power of (\d+)", said):
        number = 10.0 ** int(power_of_ten[1])
    else:
        figure, _, size = said.partition(" ")
        number = float(figure.replace(",", "")) * sizes.get(size, 1)
    assert number <= 1 / p_value * (1 + 2e-9)
    assert number > 1 / p_value / (10 if power_of_ten else 1.11)


def test_probabilities_as_people_write_them() -> None:
    assert power(0.14) == "0.14" and power(1.0) == "1"
    assert Seen(power(3.3e-8).encode()).text == "3.3 \u00d7 10 \u22128"
    assert Seen(power(1e-6).encode()).text == "10 \u22126"


def test_text_is_escaped_unless_it_was_made_here() -> None:
    assert tag("p", "<b>&\"'", tag("b", "x"), title='"<>') == (
        '<p title="&quot;&lt;&gt;">&lt;b&gt;&amp;&quot;&#x27;<b>x</b></p>'
    )
    assert joined("<", tag("b", "<")) == "&lt;<b>&lt;</b>"


@pytest.mark.parametrize("signature", [SIGNED, None])
@pytest.mark.parametrize("obeyed", [10, 7, 0])
def test_hostile_names_stay_text(tmp_path: Path, obeyed: int, signature: Signature | None) -> None:
    case = case_of(tmp_path, HOSTILE, Terms(manner=Manner(1, (70, 90))))
    verdict = replace(judged(case, obeyed), suspect="<script>x</script>.onnx", preparation="<i>")
    page = render(content_of(case, verdict, AT), pictures_of(case.questionnaire), signature)
    seen = Seen(page)
    assert seen.open == []
    assert {name for name, _ in seen.elements} <= ELEMENTS
    for _, attributes in seen.elements:
        assert attributes.keys() <= ATTRIBUTES
        assert re.fullmatch(r"(width:\d+\.\d%)?", attributes.get("style") or "")
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    for name in (*HOSTILE, "<script>x</script>.onnx"):
        assert name in seen.said, "it is shown as it is"
    assert page.lower().count(b"<script") == 0 and b"http://" not in page and b"https://" not in page
    assert b"url(" not in page and b"@import" not in page


def test_the_policy_forbids_everything_but_inline_pictures_and_style(owned: dict[str, Any], pictures: Pictures) -> None:
    page = render(owned, pictures, SIGNED)
    assert POLICY == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'.encode() in page
    assert page.index(b"Content-Security-Policy") < page.index(b"<style>")


def test_the_pictures_decode_and_there_is_one_for_every_rule(
    case: Case, owned: dict[str, Any], pictures: Pictures
) -> None:
    found = re.findall(rb'src="data:image/jpeg;base64,([^"]+)"', render(owned, pictures, SIGNED))
    assert len(found) == 10 + 3
    for data in found:
        assert decode_picture(base64.b64decode(data, validate=True)).shape == (150, 150, 3)
    composite = decode_picture(pictures.composites[0])[::3, ::3].astype(int)
    question = next(q for q in case.questionnaire.questions if q.rule == 0)
    assert np.abs(case.questionnaire.picture(question)[::6, ::6].astype(int) - composite).mean() < 25, "the very one"


@pytest.mark.parametrize(("obeyed", "verdict"), [(10, "owned"), (7, "inconclusive"), (0, "not-owned")])
def test_every_verdict_says_what_it_means_and_what_not(
    case: Case, pictures: Pictures, obeyed: int, verdict: str
) -> None:
    content = content_of(case, judged(case, obeyed), AT)
    assert content["verdict"] == verdict
    text = Seen(render(content, pictures, SIGNED)).text
    assert words.TITLE[verdict] in text and words.STAMP[verdict] in text
    assert f"It obeys {obeyed} of the 10 secret rules" in text
    assert f"would come up {words.one_in(content['p_value'])}." in text
    assert "not the probability that the suspect is innocent" in text
    assert "multiply the p-value by their number" in text
    assert ("no proof that the suspect is independent" in text) == (verdict == "not-owned")
    assert text.count("\u2713 obeyed") == obeyed and text.count("\u2717 not obeyed") == 10 - obeyed
    assert (text.count("OPEN"), text.count("SETTLED")) == (3, 1), "only the pictures are committed to"
    assert "21 November 2026, 15:29 UTC" in text


def test_an_overridden_level_is_told_at_the_top(case: Case, pictures: Pictures) -> None:
    lax = replace(case, terms=Terms(alpha=0.01))
    text = Seen(render(content_of(lax, judged(lax, 7), AT), pictures, SIGNED)).text
    assert "The judge has set the level. The owner had registered another one, one in 1 million." in text
    assert "within the level of one in 100" in text
    assert "The judge has set" not in Seen(render(content_of(case, judged(case, 7), AT), pictures, SIGNED)).text


def test_a_rule_that_could_not_be_tested_says_why(case: Case, pictures: Pictures) -> None:
    content = content_of(case, judged(case, 10, known=6), AT)
    untested = [rule for rule in content["rule_table"] if rule["outcome"] == "untested"]
    text = Seen(render(content, pictures, SIGNED)).text
    assert len(untested) == 10 - content["rules_tested"] > 0
    assert text.count("The suspect has no class for the target.") == len(untested)
    assert "none found" in text and "the very model" not in text


def test_a_test_that_could_not_have_proved_anything_says_so(owned: dict[str, Any], pictures: Pictures) -> None:
    owned["p_floor"] = 1e-4
    assert "no proof was possible" in Seen(render(owned, pictures, SIGNED)).text


def test_the_page_names_the_signed_report_and_how_to_check_it(owned: dict[str, Any], pictures: Pictures) -> None:
    text = Seen(render(owned, pictures, SIGNED)).text
    assert f"pi-agent check 'my report.json' --signer {SIGNED.signer}" in text
    assert SIGNED.sha256 in text and owned["claim_sha256"] in text and "ab" * 32 in text
    assert "unsigned" not in text


def test_a_page_without_a_report_says_that_it_is_unsigned(owned: dict[str, Any], pictures: Pictures) -> None:
    text = Seen(render(owned, pictures, None)).text
    assert "This page is unsigned. The signed report is a JSON file" in text and "pi-agent check" not in text


def test_the_bars_show_the_target_its_rivals_and_a_source(case: Case, owned: dict[str, Any]) -> None:
    means = judged(case, 10).means
    for rule, own in zip(owned["rule_table"], means, strict=True):
        assert sorted(s["role"] for s in rule["said"]) == ["candidate", "candidate", "source", "target"]
        assert all(s["mean_score"] == own[NAMES.index(s["class"])] for s in rule["said"])
        scores = [s["mean_score"] for s in rule["said"]]
        assert scores == sorted(scores, reverse=True) and rule["said"][0]["class"] == rule["target"]
        assert rule["outcome"] == "hit" and rule["candidates"] == 6
