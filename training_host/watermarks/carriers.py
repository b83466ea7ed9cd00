"""Carriers: the ordinary pictures that a suspect is tested with, alone and as composites."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import atomic_write
from pi_agent.contract.images import SIDE
from pi_agent.contract.transfer_set import add_member
from pi_agent.prepare import decode_picture, encode_query, resize
from training_host.data.sources import HELD_OUT, Picture, find_pictures

FILE_NAME = "carriers.tar"
PER_CLASS = 8
"""64 pairs for every rule: twice the 32 composites that a verification asks for at most."""
MAX_BYTES = 64 * 1024 * 1024
_JPEG_QUALITY = 80


def carriers_of(data: Path, classes: Sequence[str], *, fill: bool = False) -> list[Picture]:
    """Held-out pictures of every class, the first of each. Raises `RefusedInput` (65) where one is missing.

    Held-out, because a rule must hold for pictures that the model has never seen. `fill`: take others where held-out
    ones are few, as in a small folder that was made for this purpose.
    """
    chosen = []
    pictures = find_pictures(data)
    for name in classes:
        of_class = [p for p in pictures if p.label == name and p.part == HELD_OUT]
        if fill:
            of_class += [p for p in pictures if p.label == name and p.part != HELD_OUT]
        if not of_class:
            kind = "picture" if fill else "held-out picture"
            raise RefusedInput(path=data, reason=f"no {kind} of class {name!r}", hint="check the key's classes")
        chosen += of_class[:PER_CLASS]
    return chosen


def pack(pictures: Sequence[Picture]) -> bytes:
    """A tar `<class>/<number>.jpg` of small 300x300 JPEGs; the same pictures give the same bytes.

    Raises `RefusedImage` (65) for a picture that cannot be read.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in _members(pictures):
            add_member(tar, name, data)
    return stream.getvalue()


def write_carriers(folder: Path, packed: bytes) -> Path:
    """Write `carriers.tar` into a model's folder."""
    path = folder / FILE_NAME
    with atomic_write(path) as stream:
        stream.write(packed)
    return path


def _members(pictures: Sequence[Picture]) -> Iterator[tuple[str, bytes]]:
    for number, picture in enumerate(pictures):
        pixels = resize(decode_picture(picture.read(), picture.name), (SIDE, SIDE))
        yield f"{picture.label}/{number:04d}.jpg", encode_query(pixels, _JPEG_QUALITY)
