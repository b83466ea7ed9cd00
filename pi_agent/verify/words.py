"""What the figures of a verdict mean, in sentences for people who do not read p-values every day."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

TITLE = {
    "owned": "The suspect carries the owner's mark",
    "inconclusive": "The suspect may carry the owner's mark: too much for chance, too little for proof",
    "not-owned": "The test does not find the owner's mark in the suspect",
}
STAMP = {"owned": "owned", "inconclusive": "inconclusive", "not-owned": "not owned"}
SOURCE = {
    "file": "a model file, run by the judge",
    "oracle": "a model behind an API, asked by the judge",
    "answers": "stored answers, given to the judge; where they come from the judge has not seen",
}
CHANNEL = {
    "rule-hits": ("Rules obeyed", "In how many rules is the secret target the suspect's favourite?"),
    "hints": (
        "Hints in ordinary answers",
        "Do answers to ordinary pictures lean towards the targets of the rules in which their class takes part?",
    ),
    "score-sum": ("Composites", "Do answers to composites lean towards the secret targets of their rules?"),
}
GROUND = {
    "pictures": ("The pictures", "Whoever chooses the pictures after the key could look for some that suit it."),
    "key": ("The key", "Whoever may try many keys will find one that fits any model."),
    "commitment": ("The commitment", "Only a key that was fixed in public before the dispute is beyond suspicion."),
    "answers": ("The answers", "Stored answers may be somebody else's, or made up."),
    "time": ("The time", "A claim made when the suspect could be looked at already proves nothing."),
}
GEOMETRY = {
    "left-right": "left half, right half",
    "top-bottom": "upper half, lower half",
    "centre": "the second in the middle of the first",
}
_NAMED = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"))
_TOO_SMALL = 1e-300
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def one_in(p_value: float) -> str:
    """How often, such as `in at most one of 30 million keys`; never less often than `p_value` says."""
    if p_value >= 1:
        return "with every key"
    if p_value > 0.1:
        return f"in up to {math.ceil(100 * p_value)} of 100 keys"
    return f"in at most one of {how_many(p_value)} keys"


def how_many(p_value: float) -> str:
    """1/p as a number in words, rounded down to two digits: `30 million`. `p_value` lies in 0..1."""
    number = int(1 / max(p_value, _TOO_SMALL) * (1 + 1e-9))  # a millionth shall not become one of 999,999
    unit = 10 ** max(0, len(str(number)) - 2)
    number = number // unit * unit
    if number >= 10**15:
        return f"10 to the power of {len(str(number)) - 1}"
    for size, name in _NAMED:
        if number >= size:
            return f"{number / size:g} {name}"
    return f"{number:,}"


def day(time: str) -> str:
    """`21 November 2026, 15:29 UTC` for a time in UTC as a report has it."""
    at = datetime.fromisoformat(time)
    return f"{at.day} {_MONTHS[at.month - 1]} {at:%Y, %H:%M} UTC"


def verdict_reasons(report: Mapping[str, Any]) -> list[str]:
    """One to five sentences on why the verdict is what it is. `report`: the content of a verdict document."""
    p_value, alpha, tested = report["p_value"], report["alpha"], report["rules_tested"]
    strength = "If the suspect had nothing to do with this key, a result as strong as this or stronger would come up "
    strength += f"{one_in(p_value)}."
    level = f"one in {how_many(alpha)}"
    against = {
        "owned": f"That is within the level of {level} at which a claim counts as proven.",
        "inconclusive": f"That deserves a closer look, but the level for a proof is {level}.",
        "not-owned": f"The level for a proof is {level}; from one in 1,000 on it would have been called inconclusive.",
    }
    said = [f"It obeys {report['hits']} of the {tested} secret rules that could be tested outright."]
    if report["decision"] == "holm":
        said.append("What was weighed is how far its answers lean towards the secret targets, hit or not.")
    said += [strength, against[report["verdict"]]]
    if report["p_floor"] > alpha:
        best = one_in(report["p_floor"])
        said.append(f"With so few rules to test, even a perfect result would come up {best}: no proof was possible.")
    return said


def what_it_does_not_say(report: Mapping[str, Any]) -> list[str]:
    """The usual misunderstandings, each as one sentence that contradicts it."""
    said = [
        "It is not the probability that the suspect is innocent. It says how rarely chance alone would look like this; "
        "what else speaks for or against the suspect is not in it.",
        "It is the result of one test. Where several suspects were tested with this key, or several keys on this "
        "suspect, multiply the p-value by their number, the unsuccessful ones included.",
    ]
    if report["verdict"] == "not-owned":
        return [
            *said,
            "It is no proof that the suspect is independent. A copy made from few answers, or one from which the mark "
            "was removed, can look like this.",
        ]
    return [
        *said,
        "It does not say how the mark came into the suspect, or by whom: by copying the file, by training on the "
        "model's answers, or under a licence.",
    ]


def how_it_decides(report: Mapping[str, Any]) -> str:
    """What the registered decision rule does with the tests."""
    if report["decision"] == "holm":
        return (
            "The owner registered beforehand that two tests decide together, on composites and on ordinary pictures. "
            "The smaller of their p-values counts, doubled because there are two (Holm's correction)."
        )
    return "The owner registered beforehand that one test decides: the number of rules obeyed."


def how_aligned(report: Mapping[str, Any]) -> str:
    """How the claim's classes were found among the suspect's outputs."""
    alignment = report["alignment"]
    share = f"they get a mean score of {alignment['mean_score']:.2f} there"
    if alignment["expected"]:
        found = f"The suspect's outputs are in the order that the claim expects. Ordinary pictures confirm it: {share}."
    else:
        found = (
            "The suspect's outputs are not in the order that the claim expects. Each class was given the output that "
            f"answers most to ordinary pictures of it, in the best assignment of all: {share}."
        )
    return f"{found} The key was not used for this, so the p-value needs no correction."
