"""The part of the page that shows the rules, in pictures and bars."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pi_agent.verify import words
from pi_agent.verify.markup import Html, joined, name_of, picture, tag
from pi_agent.verify.pictures import SIDE, Pictures

LONGEST = 40
Report = Mapping[str, Any]


def tested(report: Report, pictures: Pictures) -> list[Html]:
    """What a rule is, with the first one as an example, and what the suspect was asked."""
    rule = report["rule_table"][0]
    chance = float(sum(Fraction(1, r["candidates"]) for r in report["rule_table"] if r["outcome"] != "untested"))
    composites = report["queries"] - report["ordinary"]
    between: tuple[Html, ...] = (tag("b", "+"), tag("b", "="))
    captions = (
        joined("an ordinary picture of ", name_of(rule["first"])),
        joined("one of ", name_of(rule["second"])),
        joined("rule 1: leans towards ", tag("strong", name_of(rule["target"]))),
    )
    row: list[Html] = []
    for number, (jpeg, caption) in enumerate(zip((*pictures.sources, pictures.composites[0]), captions, strict=True)):
        row += [*between[number - 1 : number], _figure(jpeg, caption)]
    asked = f"The suspect, {words.SOURCE[report['source']]}, answered {report['queries']} of {report['questions']} "
    asked += f"questions: {composites} composites and {report['ordinary']} ordinary pictures. The key decides which "
    asked += "pictures meet, so nobody could choose them."
    return [
        tag("h2", "What was tested"),
        tag(
            "p",
            f"The owner's secret key has drawn {report['rules']} rules. Each says that the scores of a picture put "
            "together from two classes lean towards a third one, the target. It was drawn by lot among all other "
            f"classes, so nobody without the key can know it. A model that never met the key obeys about {chance:.2g} "
            f"of the {report['rules_tested']} rules that were tested; a marked one, and a copy of it, many more.",
        ),
        tag("div", *row, class_="example"),
        tag("p", asked),
        *(tag("p", text) for text in _manner(report)),
    ]


def _manner(report: Report) -> list[str]:
    mix, jpeg = report["manner"]["mix"], report["manner"]["jpeg"]
    said = []
    if mix:
        said.append(f"For every composite there were {mix} or more ordinary pictures, all in random order.")
    if jpeg:
        said.append(f"Every question went through JPEG in a quality from {jpeg[0]} to {jpeg[1]}.")
    if report["preparation"]:
        said.append(f"Pictures were prepared in another way than the claim says: {report['preparation']}.")
    return [" ".join(said)] if said else []


def _figure(jpeg: bytes, caption: Html) -> Html:
    return tag("figure", picture(jpeg, "", SIDE), tag("figcaption", caption))


def rules(report: Report, pictures: Pictures) -> list[Html]:
    """A card for every rule: its picture, what the key says, what the suspect said."""
    cards = [
        _card(number, rule, pictures.composites[number - 1]) for number, rule in enumerate(report["rule_table"], 1)
    ]
    return [
        tag("h2", "The secret rules, one by one"),
        tag(
            "p",
            "Each picture is the first of those that the suspect was shown for the rule; the figures are its mean "
            "scores over all of them. A rule is obeyed if its target gets strictly more than every other candidate. "
            "The two classes that a picture is made of (sources) are no candidates.",
        ),
        tag("ul", *cards, class_="rules"),
    ]


_OUTCOME = {"hit": ("✓ obeyed", "hit"), "not hit": ("✗ not obeyed", "miss"), "untested": ("\u2013 not tested", "miss")}


def _card(number: int, rule: Report, jpeg: bytes) -> Html:
    outcome, class_ = _OUTCOME[rule["outcome"]]
    alt = f"composite of {rule['first']} and {rule['second']}"
    bars: list[Html] = []
    for said in rule["said"]:
        role = {"target": " (target)", "source": " (source)"}.get(said["role"], "")
        width = f"width:{100 * min(1.0, max(0.0, said['mean_score'])):.1f}%"
        bars += [
            tag("span", name_of(_short(said["class"])), role, class_=said["role"]),
            tag("span", tag("span", class_="bar", style=width), class_="track"),
            tag("span", f"{said['mean_score']:.2f}"),
        ]
    missing = "The suspect has no class for the target." if rule["outcome"] == "untested" else ""
    target = tag("strong", name_of(rule["target"]))
    what = [
        tag("div", tag("span", f"Rule {number}"), tag("span", outcome, class_=class_), class_="head"),
        tag("div", name_of(rule["first"]), " + ", name_of(rule["second"]), " \u2192 ", target),
        tag("div", words.GEOMETRY[rule["geometry"]], class_="soft"),
        tag("div", missing, class_="soft") if missing else Html(),
        tag("div", *bars, class_="bars"),
    ]
    return tag("li", picture(jpeg, alt, SIDE), tag("div", *what), class_="rule")


def _short(name: str) -> str:
    """The whole name stands above the bars and in the list of classes."""
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}\u2026"
