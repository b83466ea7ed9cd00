"""One page that shows a verdict to people: self-contained, no scripts, nothing on it that is not in the report.

All text comes in through `markup`, which escapes it: the names of classes and files are somebody else's.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pi_agent.contract.claim.p_value import DECISIONS
from pi_agent.verify import words
from pi_agent.verify.cards import rules, tested
from pi_agent.verify.markup import Html, document, joined, name_of, table, tag
from pi_agent.verify.pictures import Pictures
from pi_agent.verify.style import STYLE

CLASSES_SHOWN = 60
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Signature:
    """Of the report that the page belongs to: the signer's public key, the report's file name and SHA-256."""

    signer: str
    report: str
    sha256: str


def render(report: Report, pictures: Pictures, signature: Signature | None) -> bytes:
    """The page, UTF-8. `report`: the content of a verdict document; `signature`: None if it was not written."""
    return document(
        f"Verdict: {words.STAMP[report['verdict']]}",
        STYLE,
        *_top(report, signature),
        *_meaning(report),
        *tested(report, pictures),
        *rules(report, pictures),
        *_tests(report),
        *_grounds(report),
        *_classes(report),
        *_record(report, signature),
    )


def power(value: float) -> Html:
    """A probability as people write it: `0.0042`, or 3.3 times a power of ten."""
    if value >= 0.001:
        return joined(f"{value:.2g}")
    digits, _, exponent = f"{value:.1e}".partition("e")
    ten = joined("10", tag("sup", f"\u2212{abs(int(exponent))}"))
    return tag("span", "" if digits == "1.0" else f"{digits} \u00d7 ", ten, class_="number")


def _top(report: Report, signature: Signature | None) -> list[Html]:
    verdict = report["verdict"]
    figures = [
        ("p-value", joined("p = ", power(report["p_value"]))),
        ("level for a proof", joined("p ≤ ", power(report["alpha"]))),
        ("secret rules obeyed", joined(f"{report['hits']} of {report['rules_tested']}")),
        ("questions answered", joined(str(report["queries"]))),
    ]
    return [
        tag(
            "p",
            tag("span", "Magpie · Verdict on a suspected copy"),
            tag("span", words.day(report["judged_at"])),
            class_="maker",
        ),
        tag("span", words.STAMP[verdict], class_=f"stamp {verdict}"),
        tag("h1", words.TITLE[verdict]),
        tag("p", " ".join(words.verdict_reasons(report)), class_="lead"),
        *_warnings(report, signature),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in figures), class_="figures"),
    ]


def _warnings(report: Report, signature: Signature | None) -> list[Html]:
    said = []
    still_open = [words.GROUND.get(g["what"], (g["what"], ""))[0].lower() for g in report["grounds"] if not g["solid"]]
    if report["is_claimed_model"]:
        said.append("The suspect is, bit for bit, the very model that the claim was made for.")
    if report["registered"]["alpha_overridden"]:
        registered = words.how_many(report["registered"]["alpha"])
        said.append(f"The judge has set the level. The owner had registered another one, one in {registered}.")
    if still_open and report["verdict"] != "not-owned":
        said.append(f"Nobody but the owner vouches for {_listed(still_open)}: see \u201cWhat this rests on\u201d.")
    if signature is None:
        said.append("This page is unsigned. The signed report is a JSON file (pi-agent verify --report).")
    return [tag("p", text, class_="note") for text in said]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _meaning(report: Report) -> list[Html]:
    return [
        tag("h2", "What the p-value does not say"),
        tag("ul", *(tag("li", text) for text in words.what_it_does_not_say(report))),
    ]


def _tests(report: Report) -> list[Html]:
    deciding = DECISIONS[report["decision"]]
    rows: list[tuple[str, ...]] = []
    for channel in report["channels"]:
        title = _titled(*words.CHANNEL.get(channel["name"], (channel["name"], "")))
        role = _mark("decides", "solid") if channel["name"] in deciding else _mark("told only", "told")
        rows.append((title, power(channel["p_value"]), power(channel["floor"]), role))
    return [
        tag("h2", "The tests"),
        tag("p", words.how_it_decides(report), " The result is ", tag("strong", "p = ", power(report["p_value"])), "."),
        table(("test", "p-value", "smallest possible", "role"), rows),
    ]


def _mark(text: str, kind: str) -> Html:
    return tag("span", text, class_=f"tag {kind}")


def _titled(title: str, text: str) -> Html:
    return joined(tag("strong", title), tag("div", text, class_="soft"))


def _grounds(report: Report) -> list[Html]:
    rows: list[tuple[str, ...]] = []
    for ground in report["grounds"]:
        title, why = words.GROUND.get(ground["what"], (ground["what"], ""))
        state = (
            tag("span", "SETTLED", class_="tag solid") if ground["solid"] else tag("span", "OPEN", class_="tag open")
        )
        rows.append((_titled(title, why), state, ground["how"]))
    return [
        tag("h2", "What this rests on"),
        tag(
            "p",
            "The p-value counts what chance can do. Somebody has to vouch that there was nothing but chance. Where a "
            "point is open, the owner's word is all there is.",
        ),
        table(("point", "state", "how"), rows),
    ]


def _classes(report: Report) -> list[Html]:
    outputs = list(report["alignment"]["outputs"].items())
    shown = [
        tag("li", name_of(name), " → ", "none found" if output is None else f"output {output}")
        for name, output in outputs[:CLASSES_SHOWN]
    ]
    more = [tag("p", f"{len(outputs) - CLASSES_SHOWN} more are in the report.")] if len(outputs) > CLASSES_SHOWN else []
    return [
        tag("h2", "How the classes were matched"),
        tag("p", words.how_aligned(report)),
        tag("ul", *shown, class_="classes"),
        *more,
    ]


def _record(report: Report, signature: Signature | None) -> list[Html]:
    judge, claim = report["judge"], report["claim"]
    about = f"{judge['program']} {judge['version']}, ONNX Runtime {judge['onnxruntime']}, {judge['machine']}"
    rows: list[tuple[str, ...]] = [
        ("suspect", name_of(report["suspect"])),
        ("its SHA-256", tag("code", report["suspect_sha256"] or "no file")),
        ("suspect known since", report["suspect_since"] or "not told"),
        ("claim's SHA-256", tag("code", report["claim_sha256"])),
        ("made for the model", tag("code", claim["model_sha256"])),
        ("commitment", tag("code", report["commitment"])),
        ("committed at, filed at", f"{claim['committed_at']}, {claim['created']} (the owner's word)"),
        ("owner's public key", tag("code", report["owner"])),
        ("pictures", "the judge's own" if report["carriers"] == "judge" else "the owner's, SHA-256 in the claim"),
        ("judged at", f"{report['judged_at']} by {about}, in {report['seconds']:.1f} s"),
    ]
    if signature is not None:
        rows += [
            ("signed report", name_of(signature.report)),
            ("its SHA-256", tag("code", signature.sha256)),
            ("signed by", tag("code", signature.signer)),
        ]
    return [tag("h2", "Record"), table(("", " "), rows, "record"), *_how_to_check(report, signature)]


def _how_to_check(report: Report, signature: Signature | None) -> list[Html]:
    if signature is None:
        return []
    name = shlex.quote(signature.report)
    alone = f"pi-agent check {name} --signer {signature.signer}"
    together = f"pi-agent check {name} claim.json suspect.onnx --signer {signature.signer} --signer {report['owner']}"
    return [
        tag(
            "p", "This page is for reading; what counts is the signed report. Whether it is as the judge wrote it, says"
        ),
        tag("pre", tag("code", alone)),
        tag("p", "and, with the claim and the suspect at hand, whether it is about these very files:"),
        tag("pre", tag("code", together)),
        tag("p", "Whose keys these are, the reader must know from elsewhere.", class_="soft"),
    ]
