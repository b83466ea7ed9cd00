"""The query batch: a tar of ready JPEGs in order of value. `pi-agent add` takes it, in that order."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.files import atomic_write, parse_json, sha256_hex
from pi_agent.contract.images import MAX_QUERY_BYTES
from pi_agent.contract.transfer_set import add_member, safe_members

SCHEMA = "query-batch/1"
_MANIFEST = "manifest.json"


def write_batch(path: Path, queries: Iterable[tuple[str, bytes]], work: Mapping[str, Any] | None = None) -> int:
    """Write (kind, JPEG) pairs as `<number>-<kind>.jpg`, `<number>.jpg` without a kind; returns how many.

    Whole or not at all. `work` says in `manifest.json`, which agents step over, what the batch was made from; equal
    work gives equal bytes. Raises `StorageError` (74) or `CannotCreate` (73).
    """
    with atomic_write(path) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        if work is not None:
            add_member(tar, _MANIFEST, json.dumps({"schema": SCHEMA, "work": work}, indent=2).encode())
        count = 0
        for kind, jpeg in queries:
            add_member(tar, f"{count:06d}-{kind}.jpg" if kind else f"{count:06d}.jpg", jpeg)
            count += 1
    return count


def read_batch(path: Path) -> tuple[dict[str, Any] | None, Counter[str]]:
    """The `work` that a batch was made from (None where it does not say) and how many queries of each kind it holds.

    Raises `RefusedInput` (65) for a file that is no tar.
    """
    work, queries = read_queries(path)
    return work, Counter(kind for kind, _ in queries)


def read_queries(path: Path) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """The `work` and, in order, the kind and the JPEG's SHA-256 of every query. Raises `RefusedInput` (65)."""
    work, queries = None, []
    for name, data in safe_members(path, MAX_QUERY_BYTES):
        if name == _MANIFEST:
            content = parse_json(data, f"{path}:{name}")
            work = content.get("work") if content.get("schema") == SCHEMA else None
        else:
            queries.append((Path(name).stem.partition("-")[2], sha256_hex(data)))
    if work is not None and not isinstance(work, dict):
        raise RefusedInput(path=path, reason="its manifest does not say what it was made from")
    return work, queries
