"""Which of the suspect's outputs is which class? Found on ordinary pictures, by optimal assignment.

A thief may permute, rename, drop or add classes. Only ordinary pictures and their class names enter here, never the
key: given any outcome, the key's targets are as uniform as before. So the p-value needs no correction for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GOOD_ENOUGH = 0.8
"""The expected order is kept if it explains this share of what the best assignment explains: between classes that a
weak model mixes up, the best assignment is luck."""


@dataclass(frozen=True)
class Alignment:
    """`columns[i]`: the suspect's output for class i, or None where it has none. `gain`: mean score on it, 0 to 1.

    `expected`: whether these are the columns that the claim or the names of the classes make one expect.
    """

    columns: tuple[int | None, ...]
    gain: float
    expected: bool

    @property
    def known(self) -> tuple[bool, ...]:
        """Which classes the suspect has an output for."""
        return tuple(column is not None for column in self.columns)

    def apply(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scores (n, outputs) in the order of the claim's classes, (n, classes); 0 for an unknown class."""
        out = np.zeros((len(scores), len(self.columns)))
        for i, column in enumerate(self.columns):
            if column is not None:
                out[:, i] = scores[:, column]
        return out


def align(
    mean: npt.NDArray[np.float64],
    shown: Sequence[int] | None = None,
    classes: int | None = None,
    expected: Sequence[int | None] | None = None,
) -> Alignment:
    """Find the classes among a suspect's outputs.

    `mean`: float (classes shown, outputs), the mean score of each output on ordinary pictures of each class. `shown`:
    which of all `classes` these are, by number; default: all. `expected`: the output of every class by name, where
    names are known; default: the same order, if the numbers agree. A class that was not shown has no output unless the
    expected order holds.
    """
    shown = range(len(mean)) if shown is None else shown
    classes = len(mean) if classes is None else classes
    best = optimal_assignment(mean)
    if expected is None and classes == mean.shape[1]:
        expected = range(classes)
    if expected is not None:
        usual = [expected[i] for i in shown]
        if _gain(mean, usual) >= GOOD_ENOUGH * _gain(mean, best):
            return Alignment(tuple(expected), _gain(mean, usual), True)
    columns: list[int | None] = [None] * classes
    for number, column in zip(shown, best, strict=True):
        columns[number] = column
    return Alignment(tuple(columns), _gain(mean, best), False)


def _gain(mean: npt.NDArray[np.float64], columns: Sequence[int | None]) -> float:
    return float(sum(mean[i, column] for i, column in enumerate(columns) if column is not None)) / len(mean)


def optimal_assignment(gain: npt.NDArray[np.float64]) -> tuple[int | None, ...]:
    """For every row its column, each column used once, with the largest total gain; None for rows left over.

    The Hungarian method with potentials, O(n^3) (Kuhn 1955; Jonker and Volgenant 1987): SciPy has it, a Pi does not.
    """
    rows, columns = gain.shape
    if rows > columns:
        found: list[int | None] = [None] * rows
        for column, row in enumerate(optimal_assignment(gain.T)):
            if row is not None:
                found[row] = column
        return tuple(found)
    cost = -gain
    row_of = np.full(columns + 1, -1)  # the last column stands for "not assigned yet"
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    for row in range(rows):
        slack, came_from = np.full(columns, np.inf), np.full(columns, columns)
        visited = np.zeros(columns + 1, bool)
        at = columns
        row_of[at] = row
        while row_of[at] >= 0:
            visited[at] = True
            reduced = cost[row_of[at]] - row_price[row_of[at]] - column_price[:-1]
            better = ~visited[:-1] & (reduced < slack)
            slack[better], came_from[better] = reduced[better], at
            free = np.where(visited[:-1], np.inf, slack)
            following = int(free.argmin())
            step = free[following]
            row_price[row_of[visited]] += step
            column_price[visited] -= step
            slack[~visited[:-1]] -= step
            at = following
        while at != columns:
            row_of[at] = row_of[came_from[at]]
            at = int(came_from[at])
    assigned = {int(row_of[column]): column for column in range(columns) if row_of[column] >= 0}
    return tuple(assigned.get(row) for row in range(rows))
