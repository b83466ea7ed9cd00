"""A false accuser against honest models: who knows the key, may choose the pictures, and wants a verdict "owned".

Run: python benchmarks/accusers.py

The accuser committed to a key, knows its seed and may ask the suspect; then it chooses the carriers and their order.
Every run ends with one claim, judged by the real functions. `tries`: how many filings it weighed before it filed the
best. Whatever it does, P(p <= a) <= tries * a, for the hash draws other rules for every filing. The second part shows
what is not covered: with enough tries p becomes as small as one likes, unless a beacon decides after the pictures are
fixed. The controls show that the attacks succeed where the rules do not depend on the pictures.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import machine, report
from benchmarks.nulls_data import CLASSES, carriers, make_bench, small
from benchmarks.nulls_filing import (
    FILED,
    Drawer,
    Filing,
    Suspect,
    anything,
    best_of_own,
    favourites,
    filed,
    make_drawer,
    make_suspect,
    reordered,
    suits,
    weighed,
    weighed_by_judge,
)
from benchmarks.nulls_keys import RULES, fresh_key, none_in, remember
from benchmarks.nulls_pixels import adversarial_pixels
from benchmarks.nulls_tampering import tampered
from benchmarks.nulls_zoo import Spec, zoo
from pi_agent.contract.claim import Evidence, Rule, WatermarkKey, draw_rules, new_key
from pi_agent.contract.claim.composites import GEOMETRIES

ALPHA = 1e-6
Ground = tuple[WatermarkKey, float]


@dataclass(frozen=True)
class Court:
    """Who is there: honest suspects, the accuser's pictures, and randomness."""

    suspects: Sequence[Suspect]
    drawer: Drawer
    rng: np.random.Generator

    def suspect(self) -> Suspect:
        """Any of them."""
        return self.suspects[int(self.rng.integers(len(self.suspects)))]

    def best(self, suspect: Suspect, offers: Sequence[Filing]) -> tuple[WatermarkKey, Filing, Evidence]:
        """A key, and what its owner would file: the pictures with the smallest p."""
        key = fresh_key(self.rng)
        found = [filed(key, suspect, offer, self.drawer) for offer in offers]
        at = int(np.argmin([e.p_value for e in found]))
        return key, offers[at], found[at]


def best_pictures(court: Court) -> tuple[float, int]:
    """Pictures that suit the rules of another filing best, under their right names."""
    suspect, key = court.suspect(), fresh_key(court.rng)
    rules = draw_rules(key.bound(court.drawer.sha256(court.drawer.honest())))
    return filed(key, suspect, best_of_own(rules, suspect, court.drawer), court.drawer).p_value, 1


def orders(court: Court) -> tuple[float, int]:
    """The same honest pictures in four orders."""
    offers = [reordered(court.drawer.honest(), court.rng) for _ in range(4)]
    return court.best(court.suspect(), offers)[2].p_value, 4


def mislabelled(court: Court) -> tuple[float, int]:
    """Pictures of the hoped-for targets under the sources' names, four times over: every filing has other rules."""
    suspect, key, filing, found = court.suspect(), fresh_key(court.rng), court.drawer.honest(), []
    for _ in range(4):
        filing = suits(draw_rules(key.bound(court.drawer.sha256(filing))), court.drawer, court.rng)
        found.append(filed(key, suspect, filing, court.drawer).p_value)
    return min(found), 4


def plain_pictures(court: Court) -> tuple[float, int]:
    """Black, grey, white, noise; every second time one picture for all classes."""
    numbers = court.rng.choice(court.drawer.plain, (12, FILED))
    if court.rng.random() < 0.5:
        numbers[:] = numbers[0, 0]
    filing = {c: tuple(int(n) for n in numbers[i]) for i, c in enumerate(CLASSES)}
    return filed(fresh_key(court.rng), court.suspect(), filing, court.drawer).p_value, 1


def against_suspect(court: Court) -> tuple[float, int]:
    """Any pictures under any names, adversarial ones among them; four filings weighed on the suspect itself."""
    offers = [anything(court.rng, court.drawer) for _ in range(4)]
    return court.best(court.suspect(), offers)[2].p_value, 4


def judge_brings(court: Court) -> tuple[float, int]:
    """The same, but the judge uses pictures of their own; the rules are still those of the filing."""
    suspect = court.suspect()
    key, filing, _ = court.best(suspect, [anything(court.rng, court.drawer) for _ in range(4)])
    return weighed_by_judge(draw_rules(key.bound(court.drawer.sha256(filing))), suspect).p_value, 1


def with_beacon(court: Court) -> tuple[float, int]:
    """Pool and seed chosen out of four for a guessed beacon; another value is drawn."""
    suspect, found = court.suspect(), []
    for _ in range(4):
        pool = anything(court.rng, court.drawer)
        seed, at = court.rng.bytes(32), court.drawer.sha256(pool)
        key = new_key(CLASSES, RULES, seed=seed, carriers=at, beacon="round 1000 of the beacon")
        rules = draw_rules(key.bound(beacon_value="a guess"))
        found.append((weighed(rules, suspect, pool).p_value, key, pool))
    _, key, pool = min(found, key=lambda f: f[0])
    return weighed(draw_rules(key.bound(beacon_value=court.rng.bytes(16).hex())), suspect, pool).p_value, 1


def control_mislabelled(court: Court) -> tuple[float, int]:
    """CONTROL: pictures of the targets, and rules that do not depend on the pictures."""
    rules, suspect = draw_rules(fresh_key(court.rng)), court.suspect()
    found = [weighed(rules, suspect, suits(rules, court.drawer, court.rng)).p_value for _ in range(4)]
    return min(found), 4


STRATEGIES: tuple[tuple[Callable[[Court], tuple[float, int]], int], ...] = (
    (best_pictures, 1450),
    (orders, 1450),
    (mislabelled, 1450),
    (plain_pictures, 1450),
    (against_suspect, 1450),
    (judge_brings, 1450),
    (with_beacon, 1450),
)
CONTROLS = ((control_mislabelled, 100),)


CONVS = tuple(Spec("small conv nets", s, f"conv-{depth}") for s in range(2) for depth in (2, 3))


def trial(court: Court, strategy: Callable[[Court], tuple[float, int]], runs: int) -> dict[str, Any]:
    """So many accusers with one strategy."""
    outcomes = [strategy(court) for _ in range(runs)]
    p = np.array([outcome[0] for outcome in outcomes])
    said = " ".join((strategy.__doc__ or "").split())
    return {
        "strategy": strategy.__name__,
        "what": said,
        "runs": runs,
        "tries": outcomes[0][1],
        "owned": int((p <= ALPHA).sum()),
        "p <= 0.001": int((p <= 1e-3).sum()),
        "expected at most": runs * outcomes[0][1] * 1e-3,
        "smallest p": float(p.min()),
        "95 % bound": none_in(runs),
    }


def grind(
    suspect: Suspect, drawer: Drawer, tries: int, rng: np.random.Generator, beacon: str = ""
) -> tuple[Any, float]:
    """The best of `tries` keys for one suspect, by rule hits; and its p there, by the accuser's pictures."""
    filing = drawer.honest()
    scores, at = favourites(suspect, filing), drawer.sha256(filing)
    number = {c: i for i, c in enumerate(CLASSES)}

    def hits(rules: Sequence[Rule]) -> int:
        count = 0
        for r in rules:
            own = scores[GEOMETRIES.index(r.geometry), number[r.first], number[r.second]].copy()
            own[[number[r.first], number[r.second]]] = -1
            count += int(own.argmax()) == number[r.target]
        return count

    best, most = None, -1
    for _ in range(tries):
        key = new_key(CLASSES, RULES, seed=rng.bytes(32), carriers=at, beacon=beacon)
        bound = key.bound(beacon_value="a guess" if beacon else "")
        if (found := hits(draw_rules(bound))) > most:
            best, most = key, found
    bound = best.bound(beacon_value="a guess" if beacon else "")
    return best, weighed(draw_rules(bound), suspect, filing).p_value


def grinders(court: Court, others: Sequence[Suspect], plan: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """What many tries before a commitment are worth: on the suspect itself, on strangers like it, with a beacon."""
    lines = []
    for tries, runs in plan:
        start, own, judged, transferred, later = time.perf_counter(), [], [], [], []
        for run in range(runs):
            suspect = others[run % len(others)]
            key, p = grind(suspect, court.drawer, tries, court.rng)
            own.append(p)
            judged.append(weighed_by_judge(draw_rules(key), suspect).p_value)
            transferred += [weighed_by_judge(draw_rules(key), s).p_value for s in others if s is not suspect]
        took = (time.perf_counter() - start) / runs / tries
        for run in range(runs):
            suspect = others[run % len(others)]
            key, _ = grind(suspect, court.drawer, min(tries, 10_000), court.rng, "round 1000")
            values = [key.bound(beacon_value=court.rng.bytes(16).hex()) for _ in range(20)]
            later += [weighed(draw_rules(v), suspect, court.drawer.honest()).p_value for v in values]
        groups = {"own pictures": own, "judge's pictures": judged, "strangers": transferred, "true beacon": later}
        lines.append(
            {"tries": tries, "runs": runs, "seconds per try": took, **{n: spread(p) for n, p in groups.items()}}
        )
    return lines


def spread(p: Sequence[float]) -> dict[str, float]:
    """Median and smallest of some p-values, and how many are small."""
    values = np.array(p)
    small_ones = {f"<= {level:g}": int((values <= level).sum()) for level in (1e-3, 1e-6)}
    return {"count": len(p), "median": float(np.median(values)), "smallest": float(values.min()), **small_ones}


def main() -> None:
    """Accuse, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0, help="of the runs, for a quick look")
    options = parser.parse_args()
    os.nice(5)
    torch.set_num_threads(1)
    remember()
    start, bench = time.perf_counter(), make_bench()
    drawer = make_drawer(bench)
    judge = np.stack([small(p) for pictures in carriers(400, FILED).values() for p in pictures])
    specs = [*zoo()[:4], *zoo()[10:140:20]]
    suspects = [make_suspect(spec, bench, drawer, judge) for spec in specs]
    court = Court(suspects, drawer, np.random.default_rng(7))
    print(f"{time.perf_counter() - start:.0f} s: {len(suspects)} suspects", file=sys.stderr, flush=True)

    def scaled(runs: int) -> int:
        return max(1, round(runs * options.share))

    trials = [trial(court, strategy, scaled(runs)) for strategy, runs in STRATEGIES]
    altered = tampered(court.rng, drawer, scaled(1450))
    pixels = adversarial_pixels([zoo()[0], *CONVS], bench, drawer, court.rng, max(1, scaled(100)))
    controls = [trial(court, strategy, scaled(runs)) for strategy, runs in CONTROLS]
    plan = [(1, scaled(100)), (100, scaled(40)), (10_000, scaled(4)), (100_000, scaled(1))]
    ground = grinders(court, suspects[:4], plan if options.share == 1 else plan[:2])
    rows = [
        (
            f"{t['strategy']}, {t['runs']} runs" + (f" of {t['tries']} tries" if t["tries"] > 1 else ""),
            f"{t['owned']} owned, smallest p {t['smallest p']:.1g}",
            f"p <= .001: {t['p <= 0.001']}, at most {t['expected at most']:.1f} expected",
        )
        for t in trials + controls
    ]
    by_pixels, control = np.array(pixels["filed"]), np.array(pixels["control"])
    rows.append(
        (
            f"adversarial pixels by gradient, {len(by_pixels)} runs",
            f"{(by_pixels <= ALPHA).sum()} owned, smallest p {by_pixels.min():.1g}",
            f"CONTROL, rules fixed: {(control <= ALPHA).sum()} of {len(control)} owned, p {np.median(control):.1g}",
        )
    )
    total = sum(t["runs"] for t in trials) + altered["runs"] + len(by_pixels)
    owned = sum(t["owned"] for t in trials) + altered["accepted"] + int((by_pixels <= ALPHA).sum())
    rows.append((f"altered after commitment, {altered['runs']} runs", f"{altered['accepted']} accepted", "all refused"))
    rows.append((f"ALL, {total} runs", f"{owned} owned", f"rate < {none_in(total):.1e} (95 %)"))
    for g in ground:
        said = [f"{g[n]['median']:.1g}" for n in ("own pictures", "judge's pictures", "strangers", "true beacon")]
        rows.append(
            (
                f"grinder, {g['tries']} keys before committing, no beacon",
                f"median p: own pictures {said[0]}, judge's {said[1]}",
                f"similar strangers {said[2]}; with a beacon {said[3]}",
            )
        )
    header = f"{machine()}, {len(suspects)} suspects, {RULES} rules, {time.perf_counter() - start:.0f} s"
    more = {"strategies": trials, "altered": altered, "pixels": pixels, "controls": controls, "grinders": ground}
    full = options.share >= 1
    report("accusers" if full else None, header, rows, {**more, "suspects": [s.spec.name for s in suspects]})


if __name__ == "__main__":
    main()
