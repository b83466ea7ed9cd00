"""Trigger pictures as files: a few composites of every rule, made from the model's own carriers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path, PurePosixPath
from typing import Any

from pi_agent.contract.claim import Rule, WatermarkKey, compose, draw_rules
from pi_agent.contract.files import atomic_write, sha256_hex, write_json
from pi_agent.contract.images import MAX_QUERY_BYTES, SIDE
from pi_agent.contract.transfer_set import safe_members
from pi_agent.prepare import Pixels, decode_picture, encode_query, resize
from training_host.watermarks.carriers import FILE_NAME, PER_CLASS

INDEX = "triggers.json"
PER_RULE = 4
_NAME_LENGTH = 40
SECRET = "these pictures and rules reveal the key: keep them as you keep it"


@dataclass(frozen=True)
class Trigger:
    """One composite: the names of its carriers and their pixels, uint8 (300, 300, 3) RGB."""

    rule: Rule
    first_name: str
    second_name: str
    first: Pixels
    second: Pixels

    @property
    def pixels(self) -> Pixels:
        """The composite, uint8 (300, 300, 3)."""
        return compose(self.first, self.second, self.rule.geometry)


class Triggers:
    """The triggers of a key that is bound to `carriers` (the bytes of the archive), rule by rule.

    Which carriers meet is drawn from the stream that a verification draws its questions from, so these are the first
    that a suspect is shown. Raises `RefusedInput` (65) for a damaged archive.
    """

    def __init__(self, key: WatermarkKey, carriers: bytes) -> None:
        self.key, self.rules = key, draw_rules(key)
        self._carriers: dict[str, list[tuple[str, bytes]]] = {name: [] for name in key.classes}
        for name, data in safe_members(Path(FILE_NAME), MAX_QUERY_BYTES, carriers):
            own = self._carriers.get(PurePosixPath(name).parent.name, [])
            if len(own) < PER_CLASS:
                own.append((name, data))

    def of(self, number: int, count: int = PER_RULE) -> list[Trigger]:
        """The first `count` triggers of a rule (numbers from 0); fewer where its carriers make fewer pairs."""
        rule = self.rules[number]
        first, second = self._carriers[rule.first], self._carriers[rule.second]
        pairs = list(product(range(len(first)), range(len(second))))
        self.key.stream(f"pairs/{number}").shuffle(pairs)
        return [_trigger(rule, first[one], second[other]) for one, other in islice(pairs, count)]


def write_triggers(folder: Path, triggers: Triggers, model_sha256: str) -> None:
    """Write `rule-01-<first>+<second>-<geometry>/1.jpg` and so on, and `triggers.json`, into the new folder `folder`.

    Folders 0700, files 0600. Raises `StorageError` (74).
    """
    os.mkdir(folder, 0o700)
    rules = []
    for number, rule in enumerate(triggers.rules):
        name = f"rule-{number + 1:02d}-{_short(rule.first)}+{_short(rule.second)}-{rule.geometry}"
        os.mkdir(folder / name, 0o700)
        pictures = [
            _write(folder, f"{name}/{place}.jpg", trigger) for place, trigger in enumerate(triggers.of(number), start=1)
        ]
        told = {"first": rule.first, "second": rule.second, "geometry": rule.geometry, "target": rule.target}
        rules.append({"rule": number + 1, **told, "pictures": pictures})
    index: dict[str, Any] = {
        "schema": "triggers/1",
        "secret": SECRET,
        "commitment": triggers.key.commitment(),
        "model_sha256": model_sha256,
        "carriers_sha256": triggers.key.carriers,
        "rules": rules,
    }
    write_json(folder / INDEX, index, mode=0o600)


def _write(folder: Path, name: str, trigger: Trigger) -> dict[str, str]:
    jpeg = encode_query(trigger.pixels)
    with atomic_write(folder / name, 0o600) as stream:
        stream.write(jpeg)
    return {"file": name, "first": trigger.first_name, "second": trigger.second_name, "sha256": sha256_hex(jpeg)}


def _trigger(rule: Rule, first: tuple[str, bytes], second: tuple[str, bytes]) -> Trigger:
    one, other = (resize(decode_picture(data, name), (SIDE, SIDE)) for name, data in (first, second))
    return Trigger(rule, first[0], second[0], one, other)


def _short(name: str) -> str:
    """A class name as part of a folder's name; the exact one stands in `triggers.json`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:_NAME_LENGTH]
