"""The project's own strategy: cover first, then doubt; and ask what was changed and mixed, not only what was given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training_host.attacks.base import Images, Query, Situation
from training_host.attacks.centres import herd, k_center
from training_host.attacks.parts import (
    Indices,
    augmented,
    cycled,
    different,
    entropy,
    features_of,
    fresh_seed,
    interleave,
    known_pictures,
    open_pictures,
    pixel_features,
    plain,
    sketch,
    votes_of,
)

SPREADS = ("herding", "kcenter")


@dataclass(frozen=True)
class Magpie:
    """Pictures of the pool, and some augmented, mixed and foreign ones; within a kind those that are far from all
    answers and that students doubt.

    `shares`: of plain, augmented, mixed and foreign pictures. The first one shrinks with the square of what is used of
    the pool, and is what is left of the pool at most: pictures of the task come first. `least`, `least_share`: while
    fewer answers than that, or than that share of the pool, will be known, and no student knows the true labels,
    everything is plain and nobody is asked for doubts, because those of a bad student mislead. `first`: how a pool is
    covered without doubts, "herding" or "kcenter", class by class where labels are known. `floor`: what a picture
    counts that no student doubts; doubts add one on average. `candidates`: so many changed pictures are looked at for
    each one that is asked, and `most` at a time unless more are asked. Raises `ValueError` for numbers that make no
    sense.
    """

    name = "magpie"
    shares: tuple[float, float, float, float] = (0.65, 0.15, 0.12, 0.08)
    least: int = 600
    least_share: float = 0.02
    first: str = "herding"
    floor: float = 0.25
    candidates: int = 4
    most: int = 8000

    def __post_init__(self) -> None:
        if len(self.shares) != len(KINDS) or min(self.shares) < 0 or not np.isclose(sum(self.shares), 1):
            raise ValueError(f"shares are those of {', '.join(KINDS)} and sum to 1")
        if self.first not in SPREADS or self.floor < 0 or self.candidates < 1:
            raise ValueError(f"`first` is one of {', '.join(SPREADS)}; floor and candidates must not be negative")

    def choose(self, situation: Situation) -> list[Query]:
        """As many as may be asked, unless the pool is empty."""
        if not len(situation.pool) or situation.size < 1:
            return []
        after = len(known_pictures(situation)) + situation.size
        few = after < max(self.least, self.least_share * len(situation.pool))
        early = few and (situation.labels is None or not situation.students)
        doubting = not early and bool(situation.students)
        counts = self._counts(situation, early)
        made = (self._made(situation, kind, n, doubting) for kind, n in zip(_MAKERS, counts[1:], strict=True))
        parts = [self._plain(situation, counts[0], doubting), *made]
        return different(interleave(parts), situation.size)

    def _counts(self, situation: Situation, early: bool) -> list[int]:
        """How many of each kind."""
        still, size = len(open_pictures(situation)), situation.size
        used = float(situation.asked.mean())
        share = 1.0 if early else self.shares[0] * (1 - used**2)
        rest = np.array(self.shares[1:], dtype=np.float64)
        if len(situation.pool) < 2:
            rest[list(_MAKERS).index("mixed")] = 0  # nothing to mix it with
        if not rest.sum():
            return [min(size, still), 0, 0, 0]
        plain_ones = min(round(share / (1.0 if early else share + float(rest.sum())) * size), still)
        ends = np.rint(np.cumsum(rest / rest.sum()) * (size - plain_ones)).astype(int)
        return [plain_ones, *np.diff(ends, prepend=0).tolist()]

    def _plain(self, situation: Situation, count: int, doubting: bool) -> list[Query]:
        of, known = open_pictures(situation), known_pictures(situation)
        if not count:
            return []
        if doubting:
            together = features_of(situation.students, np.concatenate([situation.pool[of], known]))
            doubts = self._doubts(situation, situation.pool[of])
            return plain(of[k_center(together[: len(of)], count, together[len(of) :], doubts)])
        labels, rng = situation.labels, situation.rng
        if labels is None:
            return plain(of[self._cover(situation.pool[of], count, known, rng)])
        parts = []
        for label, share in _quotas(labels, situation.asked, count).items():
            mine, asked = of[labels[of] == label], situation.asked & (labels == label)
            parts.append(plain(mine[self._cover(situation.pool[mine], share, situation.pool[asked], rng)]))
        return interleave(parts)

    def _cover(self, images: Images, count: int, known: Images, rng: np.random.Generator) -> Indices:
        """Which of the pictures cover all of them, beside those that are known."""
        points, reference = pixel_features(images), pixel_features(known)
        return herd(points, count, rng, reference) if self.first == "herding" else k_center(points, count, reference)

    def _made(self, situation: Situation, kind: str, count: int, doubting: bool) -> list[Query]:
        """Changed pictures at random, or those that are new and doubtful among several candidates."""
        many = max(count, min(count * self.candidates, self.most)) if doubting else count
        candidates = _MAKERS[kind](len(situation.pool), many, situation.rng)
        if not doubting or not count:
            return candidates
        pictures = sketch(candidates, situation.pool)
        together = features_of(situation.students, np.concatenate([pictures, known_pictures(situation)]))
        points, reference = together[: len(pictures)], together[len(pictures) :]
        order = k_center(points, count, reference, self._doubts(situation, pictures))
        return [candidates[int(i)] for i in order]

    def _doubts(self, situation: Situation, images: Images) -> npt.NDArray[np.float64]:
        """What every picture counts, float64 (n,)."""
        raw = _raw_doubts(situation, images)
        return np.asarray(self.floor + raw / max(float(raw.mean()), 1e-12), dtype=np.float64)


def _raw_doubts(situation: Situation, images: Images) -> npt.NDArray[np.float64]:
    """How far several students' scores lie apart, in L2; of a single one the entropy of its scores. Float64 (n,)."""
    votes = votes_of(situation.students, images)
    if len(votes) == 1:
        return entropy(votes[0])
    return np.asarray(np.linalg.norm(votes - votes.mean(axis=0), axis=2).mean(axis=0), dtype=np.float64)


def _augmentations(pool: int, count: int, rng: np.random.Generator) -> list[Query]:
    return augmented(cycled(rng.permutation(pool), count), rng)


def _mixes(pool: int, count: int, rng: np.random.Generator) -> list[Query]:
    firsts = cycled(rng.permutation(pool), count)
    others = (firsts + rng.integers(1, max(pool, 2), count)) % pool  # never the picture itself
    return [Query(int(a), "mixed", int(b), fresh_seed(rng)) for a, b in zip(firsts, others, strict=True)]


def _foreigners(pool: int, count: int, rng: np.random.Generator) -> list[Query]:
    return [Query(0, "foreign", seed=fresh_seed(rng)) for _ in range(count)]


_MAKERS = {"augmented": _augmentations, "mixed": _mixes, "foreign": _foreigners}
KINDS = ("plain", *_MAKERS)


def _quotas(labels: npt.NDArray[np.int64], asked: npt.NDArray[np.bool_], count: int) -> dict[int, int]:
    """How many of `count` each class gets, so that in all each is asked as often as its share of the pool demands."""
    classes, totals = np.unique(labels, return_counts=True)
    done = np.array([int((asked & (labels == c)).sum()) for c in classes])
    shares = dict.fromkeys(classes.tolist(), 0)
    for _ in range(count):
        lack = np.where(done < totals, totals / len(labels) * (asked.sum() + sum(shares.values()) + 1) - done, -np.inf)
        place = int(lack.argmax())
        done[place] += 1
        shares[int(classes[place])] += 1
    return shares
