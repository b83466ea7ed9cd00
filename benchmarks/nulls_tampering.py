"""An accuser who changes something after the commitment: every attempt must be refused, with the reason."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nulls_data import CLASSES
from benchmarks.nulls_filing import Drawer, anything, reordered
from benchmarks.nulls_keys import RULES
from pi_agent.contract.claim import (
    Claim,
    WatermarkKey,
    check_commitment,
    commitment_document,
    load_claim,
    new_key,
    save_claim,
)
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.signed import new_signer, write_signed

DAY, NEXT_DAY, MODEL = "2026-01-01", "2026-01-02", "0" * 64


def tampered(rng: np.random.Generator, drawer: Drawer, runs: int) -> dict[str, Any]:
    """So many accusers, each with a published commitment to seed, carriers and beacon, and one change to it.

    Raises `RuntimeError` if the unchanged claim is not accepted: then a refusal would say nothing.
    """
    reasons: Counter[str] = Counter()
    accepted = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            court = _Court(Path(folder), rng, drawer)
            if number % 50 == 0:
                court.file(court.claim)
            attempt = ATTEMPTS[number % len(ATTEMPTS)]
            try:
                attempt(court)
            except (ValueError, RefusedInput) as exc:
                why = str(exc.fields["reason"]) if isinstance(exc, RefusedInput) else str(exc)
                reasons[f"{attempt.__name__.strip('_')}: {why.split(' (')[0]}"] += 1
            else:
                accepted += 1
    return {"runs": runs, "accepted": accepted, "reasons": dict(reasons.most_common())}


class _Court:
    """One accuser: an owner with a published commitment, and the way a claim takes to be accepted."""

    def __init__(self, folder: Path, rng: np.random.Generator, drawer: Drawer) -> None:
        self.rng, self.drawer, self.signer = rng, drawer, new_signer()
        self.pool = anything(rng, drawer)
        self.published, self.path = folder / "commitment.json", folder / "claim.json"
        self.key = self.new_key()
        write_signed(self.published, commitment_document(self.key), self.signer)
        self.claim = self.claim_for(self.key)

    def new_key(self) -> WatermarkKey:
        """A key that is committed to the pool and a beacon, with the beacon's value."""
        pool = self.drawer.sha256(self.pool)
        key = new_key(
            CLASSES,
            RULES,
            seed=self.rng.bytes(32),
            owner=self.signer.public,
            carriers=pool,
            beacon="round 1000",
            committed_at=DAY,
        )
        return key.bound(beacon_value="0123456789abcdef")

    def claim_for(self, key: WatermarkKey) -> Claim:
        """A claim that reveals this key."""
        return Claim(key, key.commitment(), MODEL, DAY, NEXT_DAY, "carriers.tar", key.carriers)

    def file(self, claim: Claim) -> None:
        """Sign, file, load, and compare with what was published: what a judge does."""
        save_claim(self.path, claim, self.signer)
        check_commitment(self.published, load_claim(self.path))


def _other_order(court: _Court) -> None:
    other = reordered(court.pool, court.rng)
    while court.drawer.sha256(other) == court.drawer.sha256(court.pool):
        other = anything(court.rng, court.drawer)
    court.file(court.claim_for(court.key.bound(court.drawer.sha256(other))))


def _other_pictures(court: _Court) -> None:
    court.file(court.claim_for(court.key.bound(court.drawer.sha256(anything(court.rng, court.drawer)))))


def _other_pictures_beside_the_claim(court: _Court) -> None:
    court.file(replace(court.claim, carriers_sha256=court.drawer.sha256(anything(court.rng, court.drawer))))


def _other_pool(court: _Court) -> None:
    other = court.drawer.sha256(anything(court.rng, court.drawer))
    court.file(court.claim_for(replace(court.key, carriers=other)))


def _other_seed(court: _Court) -> None:
    court.file(court.claim_for(court.new_key()))


def _other_seed_old_commitment(court: _Court) -> None:
    court.file(replace(court.claim, key=court.new_key()))


def _other_alpha(court: _Court) -> None:
    court.file(court.claim_for(replace(court.key, alpha=1e-2)))


def _fewer_rules(court: _Court) -> None:
    court.file(court.claim_for(replace(court.key, rules=int(court.rng.integers(1, RULES)))))


def _other_decision(court: _Court) -> None:
    court.file(court.claim_for(replace(court.key, decision="rule-hits")))


def _other_order_of_classes(court: _Court) -> None:
    court.file(court.claim_for(replace(court.key, classes=CLASSES[1:] + CLASSES[:1])))


def _no_beacon(court: _Court) -> None:
    court.file(court.claim_for(replace(court.key, beacon="", beacon_value="")))


def _beacon_value_missing(court: _Court) -> None:
    court.file(court.claim_for(replace(court.key, beacon_value="")))


def _earlier_time(court: _Court) -> None:
    court.file(replace(court.claim, committed_at="2025-01-01"))


def _other_signer(court: _Court) -> None:
    court.signer = new_signer()
    court.file(court.claim)


def _altered_byte(court: _Court) -> None:
    save_claim(court.path, court.claim, court.signer)
    data = bytearray(court.path.read_bytes())
    at = int(court.rng.integers(len(data)))
    data[at] ^= 1 << int(court.rng.integers(7))
    court.path.write_bytes(data)
    check_commitment(court.published, load_claim(court.path))


ATTEMPTS: tuple[Callable[[_Court], None], ...] = (
    _other_order,
    _other_pictures,
    _other_pictures_beside_the_claim,
    _other_pool,
    _other_seed,
    _other_seed_old_commitment,
    _other_alpha,
    _fewer_rules,
    _other_decision,
    _other_order_of_classes,
    _no_beacon,
    _beacon_value_missing,
    _earlier_time,
    _other_signer,
    _altered_byte,
)
