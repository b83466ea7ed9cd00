"""The pictures of a page: of each rule the first composite that the suspect was shown, small."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pi_agent.prepare import resize
from pi_agent.verify.questions import Question, Questionnaire

SIDE = 150
QUALITY = 88


@dataclass(frozen=True)
class Pictures:
    """JPEGs of 150x150 pixels. `composites[i]`: of rule i; `sources`: the two that the first one is made of."""

    composites: tuple[bytes, ...]
    sources: tuple[bytes, ...]


def pictures_of(asked: Questionnaire) -> Pictures:
    """The very pictures that were asked about, made smaller. Every rule has at least one."""
    first: dict[int, Question] = {}
    for question in asked.questions:
        if question.rule is not None:
            first.setdefault(question.rule, question)
    example = first[0]
    sources = [Question(None, carrier) for carrier in (example.first, example.second) if carrier]
    return Pictures(
        tuple(_small(asked.picture(first[number])) for number in sorted(first)),
        tuple(_small(asked.picture(source)) for source in sources),
    )


def _small(pixels: npt.NDArray[np.uint8]) -> bytes:
    bgr = cv2.cvtColor(resize(pixels, (SIDE, SIDE)), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1])
