"""Is p super-uniform? More than a hundred honest models, a thousand keys each: one table, one JSON in `results/`.

Run: python benchmarks/null_models.py [--jobs 4] [--keys 1000]

For every model the answers to all 396 settings are computed once: what is shown does not depend on a key's targets,
only on which pairs of carriers meet, and here they are the same eight for every key. The keys are drawn afresh for
every model, so that p-values are independent of each other, given the models.
`end_to_end` asks as `pi-agent verify` does.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import machine, report
from benchmarks.nulls_data import CLASSES, NUMBER, PAIRS, Answers, Bench, make_bench, small
from benchmarks.nulls_keys import (
    RULES,
    TESTS,
    P,
    Ready,
    Row,
    d_plus,
    found_by,
    fresh_key,
    judge,
    ks_p,
    none_in,
    remember,
    row,
)
from benchmarks.nulls_zoo import Spec, build, zoo
from pi_agent.contract.claim import Claim, Rule, WatermarkKey, as_scores, draw_rules, queries_per_rule, weigh
from pi_agent.verify.questions import Manner, Question, Questionnaire

SHAPES = ("as it is", "permuted", "merged or dropped")
"""The outputs of a suspect, as a thief may have changed them."""
COMPARED = 10
"""Of so many keys for every model and shape `weigh` itself is asked, too."""


@dataclass(frozen=True)
class Study:
    """One model: `p[shape]` (keys, 4), `found[shape]`: classes that alignment put on the right output.

    `compared`: for how many keys `weigh` itself was called, with the same p-values."""

    spec: Spec
    accuracy: float
    p: dict[str, P]
    found: dict[str, int]
    compared: int


MADE: dict[str, Bench] = {}
"""The pictures, rendered once and handed to every worker."""


def bench() -> Bench:
    return MADE["bench"]


def begin(made: Bench) -> None:
    """In every worker."""
    MADE["bench"] = made
    os.nice(5)
    torch.set_num_threads(1)
    remember()


def changed(answers: Answers, shape: str, rng: np.random.Generator) -> tuple[Answers, list[set[int]]]:
    """Outputs in another order, or some merged and some dropped; and which classes each output stands for."""
    if shape == "as it is":
        groups = [{i} for i in range(12)]
    else:
        groups = [{int(i)} for i in rng.permutation(12)]
        if shape == "merged or dropped":
            groups = [groups[0] | groups[1], *groups[2 : int(rng.integers(8, 12))]]
    join = np.array([[float(i in own) for own in groups] for i in range(12)])
    return Answers(answers.composites @ join, answers.ordinary @ join), groups


def study(number: int, keys: int) -> Study:
    """Make one model, ask it once, weigh its answers for all keys."""
    spec, rng = zoo()[number], np.random.default_rng([99, number])
    plain = Answers.of(as_scores(build(spec, bench().training)(bench().shown), 12))
    p, found, compared = {}, {}, 0
    for shape in SHAPES:
        answers, groups = changed(plain, shape, rng)
        alignment = found_by(answers)
        found[shape] = sum(c is not None and i in groups[c] for i, c in enumerate(alignment.columns))
        ready, rows = Ready(answers, alignment), []
        for turn in range(keys if shape == SHAPES[0] else keys // 5):
            rules = draw_rules(fresh_key(rng, bench().carriers_sha256))
            rows.append(ready.row(rules))
            if turn < COMPARED:
                compared += 1
                if rows[-1] != row(judge(rules, answers, alignment)):
                    raise RuntimeError(f"{spec.name}, {shape}: the prepared answers give other p-values than weigh()")
        p[shape] = np.array(rows)
    return Study(spec, plain.accuracy, p, found, compared)


def end_to_end(numbers: Sequence[int], keys: int) -> dict[str, Any]:
    """The questions of the real questionnaire, picture by picture; and does the cache hold what they would get?"""
    rng, off, p, alike = np.random.default_rng(5), [], [], []
    for number in numbers:
        model = build(zoo()[number], bench().training)
        cached = Answers.of(as_scores(model(bench().shown), 12))
        alignment = found_by(cached)
        for _ in range(keys):
            claim = claim_of(fresh_key(rng, bench().carriers_sha256))
            rules = draw_rules(claim.key)
            asked = Questionnaire(claim, rules, bench().carriers, Manner())
            scores = as_scores(model(np.stack([small(asked.picture(q)) for q in asked.questions])), 12)
            off += [_difference(cached, rules, q, given) for q, given in zip(asked.questions, scores, strict=True)]
            composites, ordinary = asked.sorted_out(alignment.apply(scores), range(len(scores)))
            real = weigh(rules, CLASSES, composites, ordinary, alignment.known, "holm")
            p.append(row(real))
            alike += [a == b for a, b in zip(real.hit, judge(rules, cached, alignment).hit, strict=True)]
    same = [d for d in off if d is not None]
    return {
        "claims": len(p),
        "same pairs": len(same),
        "largest difference of a score": max(same),
        "rules with the same outcome": float(np.mean(alike)),
        "KS p": {name: ks_p(np.array(p)[:, i]) for i, name in enumerate(TESTS)},
    }


def claim_of(key: WatermarkKey) -> Claim:
    """A claim for this key and the carriers that it is bound to."""
    day, asked = "2026-01-01", queries_per_rule(len(CLASSES), RULES)
    return Claim(key, key.commitment(), "0" * 64, day, day, "carriers.tar", key.carriers, queries_per_rule=asked)


def _difference(cached: Answers, rules: Sequence[Rule], asked: Question, given: Row) -> float | None:
    """How far the answer to a composite is from the one in the cache, None where the cache has other pairs."""
    if asked.rule is None or asked.second is None or asked.first[1] != asked.second[1]:
        return None
    rule = rules[asked.rule]
    kept = cached.composites[NUMBER[rule.first, rule.second, rule.geometry], asked.first[1]]
    return float(np.abs(kept - given).max())


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


def line(name: str, s: dict[str, Any]) -> tuple[str, str, str]:
    """One line of the table."""
    measured = f"D+ {s['D+']:.4f}, KS p {s['KS p']:.2g}; worst {s['worst D+']:.3f}, {s['worst KS p x models']:.2g}"
    rates = f"{100 * s['<= 0.01']:.3f} % <= .01, {100 * s['<= 0.001']:.4f} % <= .001"
    return name, measured, f"{rates}, {s['<= 1e-6']} <= 1e-6 of {s['models'] * s['keys']}"


def by_family(studies: Sequence[Study]) -> dict[str, list[float]]:
    """Accuracy on the ordinary pictures, family by family."""
    found: dict[str, list[float]] = {}
    for s in studies:
        found.setdefault(s.spec.family, []).append(round(s.accuracy, 2))
    return found


def main() -> None:
    """Study all models, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--models", type=int, default=len(zoo()))
    options = parser.parse_args()
    start, studies = time.perf_counter(), []
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), begin, (make_bench(),)) as pool:
        jobs = [pool.submit(study, number, options.keys) for number in range(options.models)]
        checked = pool.submit(end_to_end, [n for n in (0, 7, 40) if n < options.models], 20)
        for job in jobs:
            studies.append(job.result())
            took = time.perf_counter() - start
            print(f"{took:6.0f} s  {studies[-1].spec.name}: {studies[-1].accuracy:.2f}", file=sys.stderr, flush=True)
        real = checked.result()
    figures = {f"{shape}: {test}": summary(studies, shape, test) for shape in SHAPES for test in TESTS}
    models, judged = len(studies), len(studies) * options.keys
    rows = [line(name, s) for name, s in figures.items()]
    clean = models - figures["as it is: decision"]["models with p <= 1e-6"]
    bounds = {"models": none_in(models), "judgements": none_in(judged)}
    rows.append(
        (
            f"{clean} of {models} models never owned",
            f"a new model is, by one of {options.keys} keys: rate < {100 * bounds['models']:.1f} % (95 %)",
            f"one of these models by a new key: < {bounds['judgements']:.1e}",
        )
    )
    alike = f"{100 * real['rules with the same outcome']:.0f} % of rules come out alike with other pairs"
    same = f"{real['same pairs']} same pairs: scores differ by {real['largest difference of a score']:.1g}"
    rows.append((f"end to end, {real['claims']} claims", same, alike))
    took = time.perf_counter() - start
    header = f"{machine()}, {models} models x {options.keys} keys, {RULES} rules, {PAIRS} pairs, {took:.0f} s"
    aligned = {shape: sum(s.found[shape] for s in studies) for shape in SHAPES}
    more = {"figures": figures, "bounds": bounds, "end to end": real, "accuracy": by_family(studies)}
    compared = sum(s.compared for s in studies)
    full = models == len(zoo()) and options.keys >= 1000
    report(
        "null_models" if full else None,
        header,
        rows,
        {**more, "classes found by alignment": aligned, "compared with weigh": compared},
    )


if __name__ == "__main__":
    main()
