"""Carriers: the ordinary pictures that composites are made of when a suspect is tested."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from pi_agent.contract.claim import WatermarkKey
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import atomic_write
from pi_agent.contract.images import SIDE
from pi_agent.contract.transfer_set import add_member
from pi_agent.prepare import decode_picture, encode_query, resize
from training_host.data.sources import HELD_OUT, Picture, find_pictures

FILE_NAME = "carriers.tar"
PER_CLASS = 8
"""64 pairs for every rule: twice the 32 composites that a verification asks for."""
_JPEG_QUALITY = 80


def carriers_of(data: Path, key: WatermarkKey) -> list[Picture]:
    """Held-out pictures of every class of the key, the first of each. Raises `RefusedInput` (65) where one is missing.

    Held-out, because a rule must hold for pictures that the model has never seen.
    """
    chosen = []
    pictures = [p for p in find_pictures(data) if p.part == HELD_OUT]
    for name in key.classes:
        of_class = [p for p in pictures if p.label == name][:PER_CLASS]
        if not of_class:
            raise RefusedInput(
                path=data, reason=f"no held-out picture of class {name!r}", hint="check the key's classes"
            )
        chosen += of_class
    return chosen


def write_carriers(folder: Path, pictures: list[Picture]) -> Path:
    """Write `carriers.tar`, `<class>/<number>.jpg`, small JPEGs of 300x300."""
    path = folder / FILE_NAME
    with atomic_write(path) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in _members(pictures):
            add_member(tar, name, data)
    return path


def _members(pictures: list[Picture]) -> Iterator[tuple[str, bytes]]:
    for number, picture in enumerate(pictures):
        pixels = resize(decode_picture(picture.read(), picture.name), (SIDE, SIDE))
        yield f"{picture.label}/{number:04d}.jpg", encode_query(pixels, _JPEG_QUALITY)
