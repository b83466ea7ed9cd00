"""The default data: drawn pictures of waste that look like photographs, so that a demo needs no download.

``render(name, rng)`` draws one picture of a class. How a class looks is the matter of its module (``metal``,
``paper``, ...); ``shapes`` and ``texture`` are the tools that those share, ``sprite`` the unlit object that they
return, ``ground``, ``light`` and ``scene`` what makes a photograph of it.
"""

import numpy as np
from numpy.typing import NDArray

from training_host.data.waste import battery, biological, cardboard, clothes, glass, metal, paper, plastic, shoes, trash
from training_host.data.waste.scene import PICTURE, photograph
from training_host.data.waste.sprite import Draw

_DRAW: dict[str, Draw] = {
    "battery": battery.draw,
    "biological": biological.draw,
    "brown-glass": glass.brown,
    "cardboard": cardboard.draw,
    "clothes": clothes.draw,
    "green-glass": glass.green,
    "metal": metal.draw,
    "paper": paper.draw,
    "plastic": plastic.draw,
    "shoes": shoes.draw,
    "trash": trash.draw,
    "white-glass": glass.white,
}

# Where people meet waste is part of how it looks: litter lies in the street.
_OUTDOORS = {"trash": 0.85}

CLASSES: tuple[str, ...] = tuple(_DRAW)

__all__ = ["CLASSES", "PICTURE", "render"]


def render(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one picture of a class.

    Args:
        name: one of ``CLASSES``.
        rng: the source of all chance. Generators in the same state give the same pixels.

    Returns:
        A (300, 300, 3) uint8 array, RGB.

    Raises:
        ValueError: if there is no such class; the message names the choices.
    """
    if name not in _DRAW:
        raise ValueError(f"unknown class {name!r}; choose one of: {', '.join(CLASSES)}")
    others = [other for other in CLASSES if other != name]
    bystander = _DRAW[others[rng.integers(len(others))]]
    return photograph(rng, _DRAW[name], bystander, _OUTDOORS.get(name, 0.03))
