"""How does the suspect want its pictures? The claim says how the owner's model does; a thief may have changed that.

Tried on ordinary pictures only, and chosen by how well their classes are recognised: the key does not enter, so the
p-value needs no correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import Claim, align, as_scores
from pi_agent.contract.manifest import InputSpec
from pi_agent.runtime.session import NotFinite, Run
from pi_agent.verify.questions import Question, Questionnaire

FAMILIAR, BETTER = 0.6, 1.1
"""A mean score on the right class from which on nothing else is tried, and how many times better another preparation
must be: a network tells ordinary pictures apart tolerably even when they are prepared wrongly."""
PER_CLASS = 2
"""Pictures that are shown for it."""
_HALF, _IMAGENET = (0.5, 0.5, 0.5), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
USUAL: Mapping[str, tuple[float, tuple[float, float, float], tuple[float, float, float]]] = {
    "0 to 1": (1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "0 to 255": (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "-1 to 1": (1 / 255, _HALF, _HALF),
    "ImageNet mean and deviation": (1 / 255, *_IMAGENET),
}
"""Name, scale, mean and standard deviation of the preparations in common use."""


def find_preparation(run: Run, asked: Questionnaire, claim: Claim) -> tuple[InputSpec, str]:
    """The claim's own preparation, or a usual one under which the suspect knows ordinary pictures better, and its name.

    The name is empty for the claim's own. Raises `RefusedModel` (65).
    """
    if run.reads.dtype in ("uint8", "int8"):
        return claim.input, "whole numbers"
    by_class: dict[str, list[Question]] = {}
    for number in asked.ordinary:
        by_class.setdefault(asked.questions[number].first[0], []).append(asked.questions[number])
    shown = [question for own in by_class.values() for question in own[:PER_CLASS]]
    classes = claim.key.classes

    def familiarity(spec: InputSpec) -> float:
        try:
            raw = run.answers((asked.picture(question) for question in shown), spec)
        except NotFinite:
            return 0.0  # half precision overflows where a network is fed numbers that it was not made for
        return _gain(raw, [classes.index(question.first[0]) for question in shown], len(classes))

    own = familiarity(claim.input)
    if own >= FAMILIAR:
        return claim.input, ""
    best, name, gain = claim.input, "", own * BETTER
    for usual, (scale, mean, std) in USUAL.items():
        spec = replace(claim.input, scale=scale, mean=mean, std=std)
        if spec != claim.input and (found := familiarity(spec)) > gain:
            best, name, gain = spec, usual, found
    return best, name


def _gain(raw: npt.NDArray[np.generic], labels: list[int], classes: int) -> float:
    """How well the classes are told apart; nothing where the answers are none."""
    try:
        scores = as_scores(raw, classes)
    except ValueError:
        return 0.0
    shown = sorted(set(labels))
    mean = np.stack([scores[np.asarray(labels) == number].mean(axis=0) for number in shown])
    return align(mean, shown, classes).gain
