"""Which filter do the answers to `resize_probes` speak for?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import NothingToDo, RefusedInput
from pi_agent.contract.manifest import RESIZE_FILTERS, InputSpec
from pi_agent.contract.metrics import mean_l2
from training_host.attacks.resize_probes import PLAIN
from training_host.data.arrays import load_transfer_sets
from training_host.data.batch import read_queries

CLEAR = 2.0
"""The second filter's probes must change the answers so many times as much as the first one's."""
LABELS_APART = np.sqrt(2) / 2 - 1e-6
"""And of labels alone those of half the pictures more: a single one changes by chance."""


@dataclass(frozen=True)
class ResizeVerdict:
    """`filter`: the oracle's, None where it is none of ours or the answers do not tell. `distances`: for each filter
    the mean L2 between the answers to its probes and to their ordinary pictures, over `pictures` pictures.
    """

    filter: str | None
    distances: dict[str, float]
    pictures: int

    @property
    def ranking(self) -> list[str]:
        """The filters, nearest first."""
        return sorted(self.distances, key=lambda name: self.distances[name])


def judge_probes(batch: Path, transfer: Sequence[Path]) -> ResizeVerdict:
    """Compare the answers in transfer sets, averaged where there are several, with what `batch` asked.

    A picture counts if it and all its probes are answered. Raises `RefusedInput` (65) where `batch` holds no probes,
    and `NothingToDo` (65) where no picture counts.
    """
    groups = _groups(batch)
    wanted = {sha256 for group in groups for sha256 in group.values()}
    answers = load_transfer_sets(transfer, InputSpec())
    told = {name: score for name, score in zip(answers.sha256, answers.scores, strict=True) if name in wanted}
    whole = [group for group in groups if told.keys() >= set(group.values())]
    if not whole:
        reason = f"{len(told)} of {len(wanted)} probes are answered, and of no picture all"
        raise NothingToDo(path=transfer[0], reason=reason, hint="collect until the batch is done, then export again")

    def said(name: str) -> npt.NDArray[np.float32]:
        return np.stack([told[group[name]] for group in whole])

    distances = {name: mean_l2(said(name), said(PLAIN)) for name in RESIZE_FILTERS}
    best, second = sorted(RESIZE_FILTERS, key=lambda name: distances[name])[:2]
    clear = CLEAR * distances[best] < distances[second]
    if np.isin([told[sha256] for group in whole for sha256 in group.values()], (0, 1)).all():
        clear = clear and distances[second] - distances[best] >= LABELS_APART
    return ResizeVerdict(best if clear else None, distances, len(whole))


def _groups(batch: Path) -> list[dict[str, str]]:
    """For every picture the hashes of its queries by kind."""
    _, queries = read_queries(batch)
    kinds = (PLAIN, *RESIZE_FILTERS)
    parts = [queries[start : start + len(kinds)] for start in range(0, len(queries), len(kinds))]
    if not parts or any(tuple(kind for kind, _ in part) != kinds for part in parts):
        reason, hint = "it is no batch of probes", "give what `train-host probe make` wrote"
        raise RefusedInput(path=batch, reason=reason, hint=hint)
    return [dict(part) for part in parts]
