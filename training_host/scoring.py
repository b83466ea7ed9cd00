"""How close a substitute comes to its victim, set by set, on the scale that an independent model fixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pi_agent.contract.errors import NothingToDo, RefusedModel
from pi_agent.contract.files import read_limited
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.metrics import agreement, mean_l2, mean_predictor, points
from pi_agent.prepare import MAX_FILE_BYTES, SUFFIXES, decode_query, prepare_bytes, shrink_to
from training_host.data.arrays import in_threads
from training_host.data.sources import find_pictures
from training_host.predictor import Predictor

Images = npt.NDArray[np.uint8]


def load_set(path: Path, spec: InputSpec) -> Images:
    """Every picture of a folder (flat or with class folders) or zip, as queries, uint8 (n, height, width, 3)."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        contents: list[tuple[str, Callable[[], bytes]]] = [
            (str(p), partial(read_limited, p, MAX_FILE_BYTES)) for p in files
        ]
    else:
        contents = [(p.name, p.read) for p in find_pictures(path)]
    if not contents:
        raise NothingToDo(path=path, reason="no pictures in it", hint="give a folder or a zip of pictures")

    def decode(item: tuple[str, Callable[[], bytes]]) -> Images:
        name, read = item
        return shrink_to(decode_query(prepare_bytes(read(), name).jpeg, name), spec)

    return np.stack(list(in_threads(decode, contents)))


def score_sets(
    substitute: Predictor, victim: Predictor, independents: Sequence[Predictor], sets: Mapping[str, Images]
) -> dict[str, dict[str, float]]:
    """Per set: l2, l2_independent (mean over the independents), l2_mean_predictor, agreement, points.

    Raises `RefusedModel` (65) when the models name different classes.
    """
    for model in (substitute, *independents):
        if model.classes != victim.classes:
            raise RefusedModel(
                path=model.folder, reason="its classes are not the victim's", hint="score like with like"
            )
    result = {}
    for name, images in sets.items():
        truth, copy = victim.scores_of(images), substitute.scores_of(images)
        reference = float(np.mean([mean_l2(truth, i.scores_of(images)) for i in independents]))
        l2 = mean_l2(truth, copy)
        result[name] = {
            "l2": l2,
            "l2_independent": reference,
            "l2_mean_predictor": mean_predictor(truth),
            "agreement": agreement(truth, copy),
            "points": points(l2, reference),
        }
    return result
