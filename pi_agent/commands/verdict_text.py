"""A verdict for a terminal: the sentence, the tests, one line for each rule, and what it rests on."""

from __future__ import annotations

from pi_agent.contract.claim.p_value import DECISIONS
from pi_agent.contract.output import table
from pi_agent.verify import Verdict

_MEANING = {
    "owned": "it follows the owner's secret rules; a stranger's model would do so with probability p at most",
    "not-owned": "it follows the owner's secret rules no more than a stranger's model may by chance",
    "inconclusive": "it follows the rules more than chance likes, too little for proof: look closer",
}
_CHANNELS = {
    "score-sum": "answers to composites lean towards the rules' targets",
    "hints": "answers to ordinary pictures lean towards the targets",
    "rule-hits": "composites are called by the rule's target",
}


def text_of(result: Verdict) -> list[str]:
    """A verdict in lines for a terminal."""
    evidence = result.evidence
    rows = [
        (
            f"{r.first} + {r.second}",
            r.geometry,
            r.target,
            f"{share:.2f}",
            "hit" if hit else "-" if tested else "no class",
        )
        for r, share, hit, tested in zip(result.rules, evidence.share, evidence.hit, evidence.tested, strict=True)
    ]
    deciding = DECISIONS[evidence.decision]
    tests = [
        (
            channel.name,
            f"{channel.p_value:.3g}",
            "decides" if channel.name in deciding else "told only",
            _CHANNELS[channel.name],
        )
        for channel in evidence.channels
    ]
    notes = ["this is bit for bit the model that the claim was made for"] if result.is_claimed_model else []
    if not result.alignment.expected:
        notes.append(f"its outputs were found in another order: {sum(result.alignment.known)} of the claim's classes")
    if result.preparation:
        notes.append(f"it was shown pictures in another way than the claim says: {result.preparation}")
    if result.unanswered:
        notes.append(f"{result.unanswered} questions were refused for ever; a rule without answers counts as not hit")
    return [
        f"{result.verdict}: p = {evidence.p_value:.3g} (alpha {result.alpha:g}), "
        f"{evidence.hits} of {len(result.rules)} rules hit, {result.queries} queries, {result.seconds:.1f} s",
        _MEANING[result.verdict],
        *notes,
        "",
        *table(tests, ("test", "p", "", "")),
        "",
        *table(rows, ("sources", "geometry", "target", "score", "")),
        "",
        "What this rests on:",
        *(f"  {'settled' if g.solid else 'open':7}  {g.what}: {g.how}" for g in result.grounds),
    ]
