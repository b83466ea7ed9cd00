"""Carriers: ordinary pictures of every class, the owner's from the claim or the judge's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pi_agent.contract.claim import Claim
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import read_limited, sha256_hex
from pi_agent.contract.images import MAX_QUERY_BYTES, SIDE
from pi_agent.contract.transfer_set import safe_members
from pi_agent.prepare import SUFFIXES, decode_picture, resize

MAX_CARRIER_BYTES = 64 * 1024 * 1024
PER_CLASS = 8
"""Pictures used per class: 64 pairs are plenty for one rule, and a Pi has little memory (0.3 MB for each picture)."""
MOST_PICTURES = 256
Pixels = npt.NDArray[np.uint8]
Encoded = tuple[str, str, Callable[[], bytes]]
"""A picture on disk: class, name for messages, how to read it."""


def load_carriers(
    source: Iterable[Encoded], needed: Collection[str], others: Collection[str] = ()
) -> dict[str, list[Pixels]]:
    """The first pictures of every class in `needed` and, where there are any, in `others`.

    Decoded to uint8 (300, 300, 3), in the order of `others` where it names a class, fewer of each where there are many
    classes. Raises `RefusedInput` (65) where a needed class has none.
    """
    found: dict[str, list[Pixels]] = {name: [] for name in dict.fromkeys([*others, *needed])}
    per_class = max(1, min(PER_CLASS, MOST_PICTURES // max(1, len(found))))
    for class_name, where, read in source:
        if class_name in found and len(found[class_name]) < per_class:
            found[class_name].append(resize(decode_picture(read(), where), (SIDE, SIDE)))
    for name in needed:
        if not found[name]:
            hint = "give a folder with a sub-folder of pictures for every class of the claim"
            raise RefusedInput(path="carriers", reason=f"no picture of class {name!r}", hint=hint)
    return {name: pictures for name, pictures in found.items() if pictures}


def in_claim(claim: Claim, folder: Path) -> Iterator[Encoded]:
    """The pictures that the owner filed with the claim, checked against its hash. Raises `RefusedInput` (65)."""
    path = folder / claim.carriers
    data = read_limited(path, MAX_CARRIER_BYTES)
    if sha256_hex(data) != claim.carriers_sha256:
        hint = "ask the owner for the original"
        raise RefusedInput(path=path, reason="not the carriers that the claim names", hint=hint)
    for name, content in safe_members(path, MAX_QUERY_BYTES, data):
        yield PurePosixPath(name).parent.name, f"{path}: {name[:200]!r}", partial(bytes, content)


def in_folder(folder: Path) -> Iterator[Encoded]:
    """The adjudicator's own pictures, `<class>/*.jpg`, in the order of their names."""
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES:
            yield path.parent.name, str(path), partial(read_limited, path, MAX_CARRIER_BYTES)
