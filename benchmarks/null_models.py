"""Is p super-uniform? More than three hundred honest models, hundreds of keys each: one table, one JSON in `results/`.

Run: python benchmarks/null_models.py [--jobs 1] [--keys 300] [--models N] [--work DIR]

For every model the answers to all 396 settings are computed once: what is shown does not depend on a key's targets,
only on which pairs of carriers meet, and here they are the same eight for every key. The keys are drawn afresh for
every model, so that p-values are independent of each other, given the models. `end_to_end` asks as `pi-agent verify`
does. Every finished model is a file in the work folder, outside the repository: the same command goes on after a kill.

Narrower than it could be, for two cores: rendered pictures (40 of each class to train on), networks of 4 to 32
channels, 8 to 30 epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import machine, report
from benchmarks.nulls_data import CLASSES, NUMBER, PAIRS, Answers, Bench, small
from benchmarks.nulls_keys import RULES, TESTS, Ready, Row, at_most, found_by, fresh_key, judge, ks_p, row
from benchmarks.nulls_study import (
    SHAPES,
    Study,
    all_in,
    bench_in,
    changed,
    code_sha256,
    default_work,
    load,
    outstanding,
    study_and_keep,
)
from benchmarks.nulls_summary import by_family, line, lines_by_rule, own_marks, rule_by_rule, rules_obeyed, summary
from benchmarks.nulls_zoo import build, zoo
from pi_agent.contract.claim import Claim, Rule, WatermarkKey, as_scores, draw_rules, queries_per_rule, weigh
from pi_agent.contract.files import atomic_write
from pi_agent.verify.questions import Manner, Question, Questionnaire

KEYS = 300
ALPHA = 1e-6
ASKED, CLAIMS = (0, 7, 40), 10
"""For `end_to_end`: these models, so many keys each."""
AGAIN = 20_000
"""Fresh keys for a model that was owned by one."""
COUNTED = {"as they are": SHAPES[:1], "outputs changed": SHAPES[1:], "all together": SHAPES}


def end_to_end(numbers: Sequence[int], keys: int, bench: Bench) -> dict[str, Any]:
    """The questions of the real questionnaire, picture by picture; and does the cache hold what they would get?"""
    rng, off, p, alike = np.random.default_rng(5), [], [], []
    for number in numbers:
        model = build(zoo()[number], bench.training)
        cached = Answers.of(as_scores(model(bench.shown), 12))
        alignment = found_by(cached)
        for _ in range(keys):
            claim = claim_of(fresh_key(rng, bench.carriers_sha256))
            rules = draw_rules(claim.key)
            asked = Questionnaire(claim, rules, bench.carriers, Manner())
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


def run(work: Path, models: int, keys: int, jobs: int) -> None:
    """Everything that is not in `work` yet."""
    todo = outstanding(work, models)
    print(f"{models - len(todo)} of {models} models are done; {work}", file=sys.stderr, flush=True)
    bench_in(work)
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        for number in pool(joblib.delayed(study_and_keep)(number, keys, work) for number in todo):
            done = load(work, number)
            if done:
                told = f"{number:4d}  {done.seconds:5.1f} s  {done.spec.name}: {done.accuracy:.2f}"
                print(told, file=sys.stderr, flush=True)


def asked_for_real(work: Path, models: int) -> dict[str, Any]:
    """`end_to_end`, kept in `work`."""
    numbers = [n for n in ASKED if n < models]
    path = work / f"end-to-end-{len(numbers)}.json"
    if not path.is_file():
        found = end_to_end(numbers, CLAIMS, bench_in(work))
        with atomic_write(path) as stream:
            stream.write(json.dumps(found).encode())
    kept: dict[str, Any] = json.loads(path.read_bytes())
    return kept


def second_looks(work: Path, studies: Sequence[Study]) -> list[dict[str, Any]]:
    """Every model that was owned by one of hundreds of keys, under thousands of new ones: is it the model, or luck?

    All of them count here, and none is taken off the first count. Kept in `work`.
    """
    found = []
    for number, done in enumerate(studies):
        for shape in (shape for shape in SHAPES if owned(done, shape)):
            path = work / f"again-{number:04d}-{SHAPES.index(shape)}.json"
            if not path.is_file():
                again = {"model": done.spec.name, "outputs": shape, **second_look(done, shape, bench_in(work))}
                with atomic_write(path) as stream:
                    stream.write(json.dumps(again).encode())
            found.append(json.loads(path.read_bytes()))
    return found


def second_look(done: Study, shape: str, bench: Bench) -> dict[str, Any]:
    """p-values of the decision, and of the smallest single test, for `AGAIN` fresh keys."""
    rng = np.random.default_rng(6)
    plain = Answers.of(as_scores(build(done.spec, bench.training)(bench.shown), 12))
    answers, _ = changed(plain, shape, rng)
    ready = Ready(answers, found_by(answers))
    p = np.array([ready.row(draw_rules(fresh_key(rng, bench.carriers_sha256))) for _ in range(AGAIN)])
    below = {str(a): [int(n) for n in (p <= a).sum(axis=0)] for a in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)}
    first = sorted(done.p[shape][:, TESTS.index("decision")].tolist())[0]
    return {"p at first": first, "fresh keys": AGAIN, "tests": list(TESTS), "as small as": below}


def again(look: dict[str, Any]) -> tuple[str, str, str]:
    """One line of the table."""
    column, keys = look["tests"].index("decision"), look["fresh keys"]
    counts = ", ".join(f"{n[column]} <= {float(a):g}" for a, n in look["as small as"].items())
    return (
        f"owned once: {look['model']}, {look['outputs']}",
        f"p = {look['p at first']:.1e}",
        f"{keys} new keys: {counts}",
    )


def owned(done: Study, shape: str) -> int:
    """For how many keys."""
    return int((done.p[shape][:, TESTS.index("decision")] <= ALPHA).sum())


def verdict(studies: Sequence[Study], shapes: Sequence[str]) -> tuple[dict[str, Any], tuple[str, str, str]]:
    """How many were ever owned with their outputs in these shapes, and what this bounds, whatever the count is."""
    cases = [sum(owned(s, shape) for shape in shapes) for s in studies]
    models, judged = len(studies), sum(len(s.p[shape]) for s in studies for shape in shapes)
    accused = sum(n > 0 for n in cases)
    new, again = at_most(accused, models), at_most(sum(cases), judged)
    bounds = {
        "models": models,
        "models owned by any key": accused,
        "rate of models, 95 % bound": new,
        "judgements": judged,
        "judgements owned": sum(cases),
        "expected at most": judged * ALPHA,
        "rate of judgements, 95 % bound": again,
    }
    told = (
        f"{accused} of {models} models owned at 1e-6",
        f"a new model, by one of {judged // models} keys: rate < {100 * new:.2f} % (95 %)",
        f"{sum(cases)} of {judged} judgements, chance gives up to {judged * ALPHA:.2f}; a new key: < {again:.1e}",
    )
    return bounds, told


def main() -> None:
    """Study all models, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--models", type=int, default=len(zoo()), help="the first so many")
    parser.add_argument("--work", type=Path, help="folder for finished models (default: in the user's cache)")
    options = parser.parse_args()
    work = (options.work or default_work(options.keys)).resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.nice(5)
    run(work, options.models, options.keys, options.jobs)
    studies, real = all_in(work, range(options.models)), asked_for_real(work, options.models)
    figures = {f"{shape}: {test}": summary(studies, shape, test) for shape in SHAPES for test in TESTS}
    shares, obeyed, own = rule_by_rule(studies), rules_obeyed(studies), own_marks(studies)
    verdicts = {name: verdict(studies, shapes) for name, shapes in COUNTED.items()}
    luck = second_looks(work, studies)
    same = f"{real['same pairs']} same pairs: scores differ by {real['largest difference of a score']:.1g}"
    alike = f"{100 * real['rules with the same outcome']:.0f} % of rules come out alike with other pairs"
    rows = [(f"{name}: {told[0]}", *told[1:]) for name, (_, told) in verdicts.items()]
    rows += [again(look) for look in luck]
    rows += [*(line(name, s) for name, s in figures.items()), *lines_by_rule(shares, obeyed, own)]
    rows.append((f"end to end, {real['claims']} claims", same, alike))
    minutes = sum(s.seconds for s in studies) / 60
    header = f"{machine()}, {len(studies)} models x {options.keys} keys, {RULES} rules, {PAIRS} pairs, "
    header += f"{minutes:.0f} minutes of one core"
    more = {
        "bounds": {name: bounds for name, (bounds, _) in verdicts.items()},
        "second looks": luck,
        "figures": figures,
        "rule by rule": shares,
        "rules obeyed": obeyed,
        "the key that is in them": own,
        "end to end": real,
        "families": by_family(studies),
        "classes found by alignment": {shape: sum(s.found[shape] for s in studies) for shape in SHAPES},
        "compared with weigh": sum(s.compared for s in studies),
        "code": code_sha256(),
    }
    full = len(studies) == len(zoo()) and options.keys >= KEYS
    report("null_models" if full else None, header, rows, more)


if __name__ == "__main__":
    main()
