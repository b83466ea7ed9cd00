"""What a suspect's answers say: channels, decisions, unknown classes, labels only; alignment leaves p alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pi_agent.contract.claim import Evidence, Rule, align, as_scores, draw_rules, new_key, weigh
from pi_agent.contract.claim.p_value import holm, sum_tail, tail

CLASSES = tuple(f"c{i:02}" for i in range(12))
COLUMN = {name: i for i, name in enumerate(CLASSES)}
RULES = draw_rules(new_key(CLASSES, 10, seed=bytes(range(32))))
TENTH = Fraction(1, 10)


def scores(*favoured: str, of: int = 4) -> np.ndarray:
    """`of` pictures, half of the score shared by the named classes."""
    out = np.full((of, 12), 0.5 / 12)
    for name in favoured:
        out[:, COLUMN[name]] += 0.5 / len(favoured)
    return out / out.sum(axis=1, keepdims=True)


def obedient(rules: tuple[Rule, ...] = RULES, obeyed: int = 10) -> list[np.ndarray]:
    """The marked model: the first rules are obeyed, at the others it sees the first source."""
    return [scores(r.target if number < obeyed else r.first) for number, r in enumerate(rules)]


def hinting(rules: tuple[Rule, ...] = RULES, strength: float = 0.02) -> dict[str, np.ndarray]:
    """Ordinary answers: the right class, and a little for the targets of its rules."""
    out = {}
    for name in CLASSES:
        own = scores(name)
        own[:, [COLUMN[r.target] for r in rules if name in (r.first, r.second)]] += strength
        out[name] = own / own.sum(axis=1, keepdims=True)
    return out


def p_of(found: Evidence, name: str) -> float:
    return next(c.p_value for c in found.channels if c.name == name)


def test_a_marked_model_is_owned_by_every_channel() -> None:
    found = weigh(RULES, CLASSES, obedient(), hinting(), decision="holm")
    assert found.hits == 10
    assert [c.name for c in found.channels] == ["score-sum", "hints", "rule-hits"], "what decides comes first"
    assert all(c.p_value <= 1e-6 for c in found.channels)
    assert p_of(found, "rule-hits") == p_of(found, "score-sum") == 1e-10
    assert found.p_value == float(min(holm([Fraction(c.p_value) for c in found.channels[:2]])))
    assert found.floor == 2e-10
    assert found.verdict(1e-6) == "owned"


def test_hints_alone_can_prove_it_under_holm_and_not_under_rule_hits() -> None:
    nothing = [scores(r.first) for r in RULES]
    by_holm = weigh(RULES, CLASSES, nothing, hinting(), decision="holm")
    by_hits = weigh(RULES, CLASSES, nothing, hinting(), decision="rule-hits")
    assert by_holm.hits == by_hits.hits == 0
    assert by_holm.verdict(1e-6) == "owned"
    assert by_holm.p_value == 2 * p_of(by_holm, "hints")
    assert by_hits.p_value == p_of(by_hits, "rule-hits") == 1
    assert by_hits.decision == "rule-hits"
    assert p_of(by_hits, "hints") == p_of(by_holm, "hints"), "told in both cases, but it does not count"


def test_under_rule_hits_nothing_is_corrected_and_only_hits_count() -> None:
    found = weigh(RULES, CLASSES, obedient(obeyed=8), decision="rule-hits")
    assert found.p_value == float(tail([TENTH] * 10, 8))
    assert found.floor == 1e-10
    assert found.channels[0].name == "rule-hits"
    twice = weigh(RULES, CLASSES, obedient(obeyed=8), decision="holm")
    assert twice.p_value == 2 * p_of(twice, "score-sum"), "a second test that says nothing counts all the same"
    assert p_of(twice, "hints") == 1


def test_no_channel_is_ever_picked_as_the_best_one() -> None:
    found = weigh(RULES, CLASSES, obedient(obeyed=5), hinting(strength=0.001), decision="holm")
    deciding = [c.p_value for c in found.channels[:2]]
    assert found.p_value == pytest.approx(min(1.0, 2 * min(deciding)))


def test_what_a_decision_does_not_name_is_told_and_never_decides() -> None:
    tied = [scores(r.target, next(c for c in r.candidates(CLASSES) if c != r.target)) for r in RULES]
    found = {decision: weigh(RULES, CLASSES, tied, decision=decision) for decision in ("holm", "rule-hits")}
    assert all(e.hits == 0 and p_of(e, "score-sum") < 5e-7 for e in found.values()), "a tie is no hit"
    assert [found[decision].verdict(1e-6) for decision in found] == ["owned", "not-owned"]


def test_labels_alone_are_enough_for_hits() -> None:
    votes = [as_scores(np.array([COLUMN[r.target]] * 3 + [COLUMN[r.first]]), 12) for r in RULES]
    found = weigh(RULES, CLASSES, votes, {c: as_scores(np.array([i] * 4), 12) for c, i in COLUMN.items()}, None, "holm")
    assert found.hits == 10
    assert found.verdict(1e-6) == "owned"
    assert p_of(found, "hints") > 0.01, "labels of ordinary pictures hold no hints"


def test_rules_without_answers_count_as_not_hit() -> None:
    some = [answers if number < 8 else answers[:0] for number, answers in enumerate(obedient())]
    found = weigh(RULES, CLASSES, some)
    assert found.hit == (True,) * 8 + (False,) * 2
    assert found.share[8:] == (0.0, 0.0)
    assert found.tested == (True,) * 10, "an unanswered question must not make the rest look better"
    assert found.p_value == float(tail([TENTH] * 10, 8))
    none = weigh(RULES, CLASSES, [answers[:0] for answers in some], {c: scores(c)[:0] for c in CLASSES}, None, "holm")
    assert none.p_value == 1
    assert none.hits == 0


def known_without(*names: str) -> list[bool]:
    return [name not in names for name in CLASSES]


def test_rules_whose_target_the_suspect_does_not_know_are_left_out() -> None:
    lost = RULES[0].target
    found = weigh(RULES, CLASSES, obedient(), hinting(), known_without(lost))
    assert found.tested == tuple(r.target != lost for r in RULES)
    assert found.hit == found.tested
    left = [r for r in RULES if r.target != lost]
    fewer = [Fraction(1, 10 - (lost not in (r.first, r.second))) for r in left]
    assert p_of(found, "rule-hits") == float(tail(fewer, len(left)))
    assert found.floor == found.p_value


def test_scores_of_unknown_classes_are_ignored() -> None:
    lost = next(c for c in CLASSES if c not in {r.target for r in RULES})
    loud = [answers.copy() for answers in obedient()]
    for answers in loud:
        answers[:, COLUMN[lost]] = 5
    spared = sum(lost in (r.first, r.second) for r in RULES)
    assert weigh(RULES, CLASSES, loud).hits == spared < 10, "it is no candidate where it is a source"
    assert weigh(RULES, CLASSES, loud, None, known_without(lost)).hits == 10


def test_a_suspect_that_knows_only_a_target_cannot_be_tested_by_its_rule() -> None:
    rule = RULES[0]
    only = [name in (rule.target, rule.first, rule.second) for name in CLASSES]
    found = weigh([rule], CLASSES, [scores(rule.target)], None, only)
    assert found.tested == (False,)
    assert found.p_value == found.floor == 1
    nothing = weigh(RULES, CLASSES, obedient(), hinting(), [False] * 12, "holm")
    assert nothing.p_value == nothing.floor == 1
    assert not any(nothing.tested)


def test_the_hints_are_the_exact_tail_of_their_sum() -> None:
    rng = np.random.default_rng(1)
    ordinary = {name: rng.dirichlet(np.ones(12), 3) for name in CLASSES}
    leaning = {name: np.log(own + 1e-3).mean(axis=0) for name, own in ordinary.items()}
    own = [(leaning[r.first] + leaning[r.second])[[COLUMN[c] for c in r.candidates(CLASSES)]] for r in RULES]
    expected = sum_tail(own, [r.candidates(CLASSES).index(r.target) for r in RULES])
    assert p_of(weigh(RULES, CLASSES, obedient(), ordinary), "hints") == float(expected)


@pytest.mark.parametrize("bad", [np.ones((2, 11)), np.full((2, 12), np.nan), np.ones(12)])
def test_ordinary_answers_of_a_wrong_shape_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scores must be finite"):
        weigh(RULES, CLASSES, obedient(), {"c00": bad})


# --- Alignment: whatever a suspect answers, however its outputs are ordered, merged or dropped, p stays as it says. ---

KEYS = 250


def every_setting(rng: np.random.Generator, outputs: int) -> dict[tuple[str, str, str], np.ndarray]:
    """A stranger with one strong favourite for every setting: nobody hits more often."""
    names = [(a, b, g) for a in CLASSES for b in CLASSES for g in ("left-right", "top-bottom", "centre") if a != b]
    return {name: rng.dirichlet(np.full(outputs, 0.1), 1) for name in names}


def merged(rng: np.random.Generator) -> np.ndarray:
    """(12, 9): which output ordinary pictures of a class get; two are merged, two are dropped, the rest is mixed."""
    answers = np.eye(12)[:, rng.permutation(12)][:, :10]
    answers[:, 8] += answers[:, 9]
    return answers[:, :9] + rng.random((12, 9)) / 50


STRANGERS = {
    "permuted": lambda rng: np.eye(12)[:, rng.permutation(12)] + rng.random((12, 12)) / 50,
    "merged and dropped": merged,
    "senseless": lambda rng: rng.random((12, 12)),
    "all one class": lambda rng: np.tile(np.eye(12)[3], (12, 1)),
    "too many outputs": lambda rng: rng.random((12, 20)),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_p_is_as_rare_as_it_says_whatever_the_alignment_finds(stranger: str) -> None:
    rng = np.random.default_rng([*stranger.encode()])
    given_by_class = STRANGERS[stranger](rng)
    given = every_setting(rng, given_by_class.shape[1])
    alignment = align(given_by_class)
    ordinary = {c: alignment.apply(given_by_class[[i]]) for c, i in COLUMN.items()}
    found = []
    for number in range(KEYS):
        rules = draw_rules(new_key(CLASSES, 8, seed=number.to_bytes(32, "big")))
        composites = [alignment.apply(given[r.first, r.second, r.geometry]) for r in rules]
        found.append(weigh(rules, CLASSES, composites, ordinary, alignment.known, "holm"))
    for values in (
        [e.p_value for e in found],
        *([p_of(e, name) for e in found] for name in ("rule-hits", "hints", "score-sum")),
    ):
        p = np.sort(np.array(values))
        d_plus = float((np.arange(1, KEYS + 1) / KEYS - p).max())
        assert 2 * KEYS * d_plus**2 < np.log(1e9) or d_plus <= 0, d_plus  # P <= exp(-2 n d^2): once in 1e9
    assert min(e.p_value for e in found) > 1e-6
