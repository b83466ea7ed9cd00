"""The transfer set: query images and the oracle's answers in one WebDataset-compatible tar.

`manifest.json` first, then per image `<sha256>.jpg` and `<sha256>.json`. Several nights may be concatenated with `cat`:
readers step over the end-of-archive blocks and over repeated manifests.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pi_agent.contract.answers import Answer, BadAnswer, as_json_list, parse_answer
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import atomic_write, open_regular, parse_json, sha256_hex
from pi_agent.contract.images import MAX_QUERY_BYTES

SCHEMA = "transfer-set/1"
_MAX_JSON_BYTES = 4 * 1024 * 1024
MOST_WAITING = 64
"""So many images may wait for their answers at a time: an archive of nothing but images must not fill the memory."""
_MEMBER = re.compile(r"([0-9a-f]{64})\.(jpg|json)")


@dataclass(frozen=True)
class TransferItem:
    """One image with all its answers. `vectors`: float32, shape (answers, classes); `times`: UTC ISO 8601, one each.

    `kind`: `label` where every answer is a class name alone, one 1 per vector; their mean is the share of votes.
    """

    sha256: str
    jpeg: bytes
    classes: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    times: tuple[str, ...] = ()
    attempts: tuple[int, ...] = ()
    kind: str = "scores"

    @property
    def mean(self) -> npt.NDArray[np.float32]:
        """The averaged answer, float32, shape (classes,)."""
        mean: npt.NDArray[np.float64] = self.vectors.mean(axis=0, dtype=np.float64)
        return mean.astype(np.float32)

    @property
    def sd(self) -> npt.NDArray[np.float32]:
        """Sample standard deviation per class; zeros for a single answer."""
        if len(self.vectors) < 2:
            return np.zeros(self.vectors.shape[1], dtype=np.float32)
        sd: npt.NDArray[np.float64] = self.vectors.std(axis=0, ddof=1, dtype=np.float64)
        return sd.astype(np.float32)


def write_transfer_set(path: Path, manifest: dict[str, Any], items: Iterable[TransferItem]) -> int:
    """Write the whole set atomically and return the number of images. Raises `StorageError`, `CannotCreate`."""
    count = 0
    with atomic_write(path) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        add_member(tar, "manifest.json", json.dumps({"schema": SCHEMA, **manifest}, indent=2).encode())
        for item in items:
            add_member(tar, f"{item.sha256}.jpg", item.jpeg)
            add_member(tar, f"{item.sha256}.json", json.dumps(_record(item)).encode())
            count += 1
    return count


def _record(item: TransferItem) -> dict[str, Any]:
    """The JSON beside an image. Labels only where every answer is one: an oracle may have changed its mind."""
    labels = item.kind == "label" and bool(np.isin(item.vectors, (0, 1)).all())
    answers = []
    for i, vector in enumerate(item.vectors):
        said = {"label": item.classes[int(vector.argmax())]} if labels else {"scores": as_json_list(vector)}
        at, attempt = item.times[i] if item.times else None, item.attempts[i] if item.attempts else None
        answers.append({**said, "at": at, "attempt": attempt})
    return {
        "sha256": item.sha256,
        "kind": "label" if labels else "scores",
        "classes": list(item.classes),
        "scores": as_json_list(item.mean),
        "sd": as_json_list(item.sd),
        "count": len(item.vectors),
        "answers": answers,
    }


def read_transfer_set(path: Path) -> Iterator[TransferItem]:
    """Stream the items of one or several concatenated transfer sets.

    Every image must have the hash it is named by, every answer must be a valid score vector or name one of the classes,
    and all answers must have the same classes. Raises `RefusedInput` (65) at the first member that does not.
    """
    images: dict[str, bytes] = {}
    expected: tuple[str, ...] | None = None
    for name, data in safe_members(path, max(_MAX_JSON_BYTES, MAX_QUERY_BYTES)):
        match = _MEMBER.fullmatch(name)
        if name == "manifest.json":
            if parse_json(data, f"{path}:{name}").get("schema") != SCHEMA:
                raise RefusedInput(
                    path=path, reason=f"its manifest is not {SCHEMA}", hint="make it with pi-agent export"
                )
        elif match is None:
            raise RefusedInput(
                path=path, reason=f"unexpected member {name[:80]!r}", hint="make it with pi-agent export"
            )
        elif match[2] == "jpg":
            if sha256_hex(data) != match[1]:
                raise RefusedInput(path=path, reason=f"{name}: the image does not have the hash it is named by")
            images[match[1]] = data
            if len(images) > MOST_WAITING:
                reason = f"more than {MOST_WAITING} images stand before their answers"
                raise RefusedInput(path=path, reason=reason, hint="make it with pi-agent export")
        else:
            if match[1] not in images:
                raise RefusedInput(path=path, reason=f"{name} stands before its image")
            item = _item(match[1], images.pop(match[1]), parse_json(data, f"{path}:{name}"), expected, path)
            expected = item.classes
            yield item
    if expected is None:
        raise RefusedInput(path=path, reason="no answered image in it", hint="run pi-agent collect, then export again")


def _item(
    sha256: str, jpeg: bytes, record: dict[str, Any], expected: tuple[str, ...] | None, path: Path
) -> TransferItem:
    answers, kind = record.get("answers"), record.get("kind", "scores")
    if kind not in ("scores", "label"):
        raise RefusedInput(path=path, reason=f"{sha256}.json holds answers of an unknown kind")
    if not isinstance(answers, list) or not answers or not all(isinstance(a, dict) for a in answers):
        raise RefusedInput(path=path, reason=f"{sha256}.json holds no answers")
    try:
        told = [{"classes": record.get("classes"), kind: a.get(kind)} for a in answers]
        parsed: list[Answer] = [parse_answer(payload, expected) for payload in told]
    except BadAnswer as exc:
        raise RefusedInput(path=path, reason=f"{sha256}.json: {exc}") from exc
    return TransferItem(
        sha256,
        jpeg,
        parsed[0].classes,
        np.stack([a.vector for a in parsed]),
        tuple(str(a.get("at") or "") for a in answers),
        tuple(a["attempt"] if isinstance(a.get("attempt"), int) else 0 for a in answers),
        kind,
    )


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add one file with fixed metadata, so that equal content gives equal bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))


def safe_members(path: Path, limit: int, data: bytes | None = None) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a tar's regular files, in order, never written to disk; `data`: its bytes, if read already.

    Links, devices and members above `limit` bytes are refused: nothing in an archive from elsewhere may point outside
    it. Raises `RefusedInput` (65).
    """
    try:
        with (
            open_regular(path, follow_links=True) if data is None else io.BytesIO(data) as file,
            tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as tar,
        ):
            end = -1
            for member in tar:
                if member.size < 0 or member.offset <= end:  # or tarfile would read the same member for ever
                    raise RefusedInput(path=path, reason=f"{member.name[:80]!r} has no honest size", hint="")
                end = member.offset
                if member.isdir():
                    continue
                if not member.isreg():
                    raise RefusedInput(path=path, reason=f"{member.name[:80]!r} is a link or a device", hint="")
                if member.size > limit:
                    raise RefusedInput(path=path, reason=f"{member.name[:80]!r} is larger than {limit // 1024} KiB")
                stream = tar.extractfile(member)
                data = stream.read(limit + 1) if stream else b""
                if len(data) != member.size:
                    raise RefusedInput(
                        path=path, reason=f"{member.name[:80]!r} is cut short", hint="copy the file again"
                    )
                yield member.name, data
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as exc:
        raise RefusedInput(path=path, reason=f"not a readable tar ({exc})", hint="copy the file again") from exc
