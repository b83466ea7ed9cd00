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
from pi_agent.runtime.session import Run
from pi_agent.verify.questions import Questionnaire

FAMILIAR = 0.3
"""Mean score on the right class from which on the claim's own preparation is taken without trying others."""
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
    questions = [asked.questions[i] for i in asked.ordinary][: 2 * len(claim.key.classes)]

    def familiarity(spec: InputSpec) -> float:
        raw = run.answers((asked.picture(q) for q in questions), spec)
        return _gain(raw, [claim.key.classes.index(q.first[0]) for q in questions], len(claim.key.classes))

    best, name, gain = claim.input, "", familiarity(claim.input)
    if gain >= FAMILIAR:
        return best, name
    for usual, (scale, mean, std) in USUAL.items():
        spec = replace(claim.input, scale=scale, mean=mean, std=std)
        if spec != claim.input and (found := familiarity(spec)) > gain:
            best, name, gain = spec, usual, found
    return best, name


def _gain(raw: npt.NDArray[np.generic], labels: list[int], classes: int) -> float:
    try:
        scores = as_scores(raw, classes)
    except ValueError:
        return 0.0
    of = np.asarray(labels)
    return align(
        np.stack([scores[of == i].mean(axis=0) if (of == i).any() else scores[:0].sum(axis=0) for i in range(classes)])
    ).gain
