"""What hundreds of honest models did under hundreds of keys: p-values against their promise, and rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.nulls_data import CLASSES, SETTINGS
from benchmarks.nulls_keys import RULES, TESTS, d_plus, ks_p
from benchmarks.nulls_spec import Spec
from benchmarks.nulls_study import CANDIDATES, Study
from pi_agent.contract.claim.composites import GEOMETRIES
from pi_agent.contract.claim.p_value import tail

Line = tuple[str, str, str]
MIXING = ("mixup", "cutmix", "mosaic", "composites")
GROUPS: Mapping[str, Callable[[Spec], bool]] = {
    "all": lambda spec: True,
    "trained networks that give scores": lambda spec: spec.network and spec.outlet != "labels",
    "of these, unmarked and trained on single pictures": lambda spec: (
        spec.network and spec.outlet != "labels" and spec.recipe not in (*MIXING, "marked", "student of a marked one")
    ),
    "trained with mixed pictures or composites": lambda spec: spec.network and spec.recipe in MIXING,
    "marked with another key": lambda spec: spec.recipe == "marked",
}
"""Constants and the like reach 100 % on one class; the groups say what a network does that somebody has trained."""


def summary(studies: Sequence[Study], shape: str, test: str) -> dict[str, Any]:
    """All that is said about one test of one shape of outputs."""
    own = [s.p[shape][:, TESTS.index(test)] for s in studies]
    pooled, worst = np.concatenate(own), [ks_p(p) for p in own]
    at = int(np.argmin(worst))
    return {
        "models": len(own),
        "keys": len(own[0]),
        "D+": d_plus(pooled),
        "KS p": ks_p(pooled),
        "worst model": studies[at].spec.name,
        "worst D+": d_plus(own[at]),
        "worst KS p": worst[at],
        "worst KS p x models": min(1.0, len(own) * worst[at]),
        "<= 0.01": float((pooled <= 0.01).mean()),
        "<= 0.001": float((pooled <= 0.001).mean()),
        "<= 1e-6": int((pooled <= 1e-6).sum()),
        "smallest": float(pooled.min()),
        "models with p <= 1e-6": sum(bool((p <= 1e-6).any()) for p in own),
    }


def line(name: str, s: Mapping[str, Any]) -> Line:
    """One line of the table."""
    measured = f"D+ {s['D+']:.4f}, KS p {s['KS p']:.2g}; worst {s['worst D+']:.3f}, {s['worst KS p x models']:.2g}"
    rates = f"{100 * s['<= 0.01']:.3f} % <= .01, {100 * s['<= 0.001']:.4f} % <= .001"
    return name, measured, f"{rates}, {s['<= 1e-6']} <= 1e-6 of {s['models'] * s['keys']}"


def by_family(studies: Sequence[Study]) -> dict[str, dict[str, Any]]:
    """Family by family: how many, accuracy on the ordinary pictures, the smallest p and the most rules obeyed."""
    families = dict.fromkeys(s.spec.family for s in studies)
    return {name: _family([s for s in studies if s.spec.family == name]) for name in families}


def _family(own: Sequence[Study]) -> dict[str, Any]:
    accuracy = [s.accuracy for s in own]
    return {
        "models": len(own),
        "accuracy": [round(float(x), 3) for x in (min(accuracy), np.median(accuracy), max(accuracy))],
        "smallest p": min(float(s.p["as it is"][:, TESTS.index("decision")].min()) for s in own),
        "most rules obeyed": max(int(s.hits.max()) for s in own),
    }


def rule_by_rule(studies: Sequence[Study]) -> dict[str, Any]:
    """Every rule that a key could draw (setting and candidate), over all models of a group.

    `share`: the mean score on the target, over models and rules. `highest share`: for every rule the model that gives
    most to its target, over rules. `favourite`: for every rule the part of the models that obey it, over rules.
    """
    found = {}
    for name, belongs in GROUPS.items():
        shares = [s.shares for s in studies if belongs(s.spec)]
        if shares:
            found[name] = {"models": len(shares), **_over_rules(np.stack(shares)), "by geometry": _by_geometry(shares)}
    return found


def _over_rules(shares: npt.NDArray[np.float32]) -> dict[str, dict[str, float]]:
    of_rules = shares[:, CANDIDATES]
    obeyed = favourites(shares)[:, CANDIDATES].mean(axis=0)
    return {"share": spread(of_rules), "highest share": spread(of_rules.max(axis=0)), "favourite": spread(obeyed)}


def _by_geometry(shares: Sequence[npt.NDArray[np.float32]]) -> dict[str, dict[str, float]]:
    rows = {g: [i for i, setting in enumerate(SETTINGS) if setting[2] == g] for g in GEOMETRIES}
    return {g: spread(np.stack(shares)[:, own][:, CANDIDATES[own]]) for g, own in rows.items()}


def favourites(shares: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether a class is the strict favourite among the candidates; `shares` float (models, settings, classes)."""
    among = np.where(CANDIDATES, shares, -1)
    second, first = np.sort(among, axis=2)[..., -2:].transpose(2, 0, 1)
    return np.asarray((among == first[..., None]) & (first > second)[..., None])


def spread(values: npt.NDArray[np.floating]) -> dict[str, float]:
    """Median, 99 % quantile and maximum."""
    return {
        "median": round(float(np.median(values)), 5),
        "99 %": round(float(np.quantile(values, 0.99)), 5),
        "max": round(float(values.max()), 5),
    }


def rules_obeyed(studies: Sequence[Study]) -> dict[str, Any]:
    """How many rules honest models obey under how many keys, and how many one expects at most."""
    hits = np.concatenate([s.hits for s in studies])
    most = max(studies, key=lambda s: int(s.hits.max()))
    chance = [Fraction(1, len(CLASSES) - 2)] * RULES
    return {
        "most": int(hits.max()),
        "most, model": most.spec.name,
        "keys with at least so many": {str(n): int((hits >= n).sum()) for n in range(1, RULES + 1)},
        "expected at most": {str(n): round(float(tail(chance, n)) * len(hits), 3) for n in range(1, RULES + 1)},
    }


def own_marks(studies: Sequence[Study]) -> dict[str, Any]:
    """Are those that are marked with another key really marked? The same test with the key that is in them."""
    groups = {"marked with another key": "marked", "students of them": "student of a marked one"}
    found = {}
    for name, recipe in groups.items():
        own = np.array([s.own for s in studies if s.spec.recipe == recipe and s.own])
        if len(own):
            found[name] = {
                "models": len(own),
                "rules obeyed, median": float(np.median(own[:, 0])),
                "p, median": float(np.median(own[:, 1])),
                "p <= 1e-6": int((own[:, 1] <= 1e-6).sum()),
                "share on a target, median": round(float(np.median(own[:, 2])), 4),
            }
    return found


def lines_by_rule(shares: Mapping[str, Any], obeyed: Mapping[str, Any], own: Mapping[str, Any]) -> list[Line]:
    """The compact table: what honest models give to a keyed target."""
    rows = []
    for name, found in shares.items():
        one, top, liked = found["share"], found["highest share"], found["favourite"]
        measured = f"median {100 * one['median']:.1f} %, 99 % {100 * one['99 %']:.0f} %, max {100 * one['max']:.0f} %"
        against = f"a rule's highest: median {100 * top['median']:.0f} %; obeyed by at most {100 * liked['max']:.0f} %"
        rows.append((f"on a target: {name} ({found['models']})", measured, against))
    for name, found in own.items():
        measured = (
            f"{found['rules obeyed, median']:g} of {RULES} rules, {100 * found['share on a target, median']:.1f} %"
        )
        rows.append((f"the key that is in {name}", measured, f"p <= 1e-6: {found['p <= 1e-6']} of {found['models']}"))
    counts = obeyed["keys with at least so many"]
    several = ", ".join(f">= {n}: {counts[str(n)]}" for n in (3, 4, 5, 6) if str(n) in counts)
    expected = ", ".join(f"{obeyed['expected at most'][str(n)]:.3g}" for n in (3, 4, 5, 6))
    rows.append((f"rules obeyed: {obeyed['most']} of {RULES} at most", several, f"expected at most {expected}"))
    return rows
