"""The claim file: what is in it comes back, no altered byte passes, nothing in it leads elsewhere; its commitment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.claim import (
    Claim,
    WatermarkKey,
    check_commitment,
    commitment_document,
    load_claim,
    new_key,
    parse_claim,
    parse_time,
    queries_per_rule,
    save_claim,
)
from pi_agent.contract.claim.document import MAX_QUERIES, ORDINARY_PER_CLASS
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.signed import Signer, write_signed
from pi_agent.contract.strict import as_mapping

OWNER, OTHER = Signer("51" * 32), Signer("52" * 32)
COMMITTED, CREATED = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
CARRIERS = "cd" * 32
CLASSES = ("boots", "cans", "glass", "métal")


def key_of(seed: bytes = bytes(range(32)), owner: Signer = OWNER, **terms: Any) -> WatermarkKey:
    return new_key(CLASSES, 6, seed=seed, owner=owner.public, committed_at=COMMITTED, **terms)


def claim_of(key: WatermarkKey) -> Claim:
    return Claim(
        key=key,
        commitment=key.commitment(),
        model_sha256="ab" * 32,
        committed_at=COMMITTED,
        created=CREATED,
        carriers="carriers.tar",
        carriers_sha256=key.carriers or CARRIERS,
        input=InputSpec(size=(48, 64)),
    )


KEY = key_of().bound(CARRIERS)
CLAIM = claim_of(KEY)
FILED = OWNER.document(as_mapping(CLAIM))


def refiled(data: dict[str, Any], signer: Signer = OWNER) -> bytes:
    """The file of an owner who alters a claim on purpose and signs it again."""
    return signer.document({k: v for k, v in data.items() if k != "signature"})


def refused(data: bytes) -> str:
    with pytest.raises(RefusedInput) as caught:
        parse_claim(data, "claim.json")
    assert caught.value.exit_code == 65 and caught.value.advice
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value.fields["reason"])


def test_a_saved_claim_comes_back_and_is_private(tmp_path: Path) -> None:
    save_claim(tmp_path / "claim.json", CLAIM, OWNER)
    assert (tmp_path / "claim.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "claim.json").read_bytes() == FILED
    assert load_claim(tmp_path / "claim.json") == CLAIM


def test_its_secrets_are_in_the_file_only() -> None:
    assert KEY.seed not in repr(CLAIM) and KEY.salt not in repr(CLAIM)
    assert OWNER.secret not in FILED.decode()


REPLACEMENTS = [b"0", b"1", b"a", b"f", b" ", b'"', b",", b"\n", b"}", b"\x00", b"\xff"]


@pytest.mark.parametrize("start", range(0, len(FILED), 32))
def test_no_altered_byte_passes(start: int) -> None:
    for at in range(start, min(start + 32, len(FILED))):
        for new in REPLACEMENTS:
            if new != FILED[at : at + 1]:
                refused(FILED[:at] + new + FILED[at + 1 :])
            refused(FILED[:at] + new + FILED[at:])
        refused(FILED[:at] + bytes([FILED[at] ^ 1]) + FILED[at + 1 :])
        refused(FILED[:at] + FILED[at + 1 :])


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_no_altered_stretch_passes(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(FILED)))
    until = data.draw(st.integers(at, len(FILED)))
    changed = FILED[:at] + data.draw(st.binary(max_size=8)) + FILED[until:]
    if changed != FILED:
        refused(changed)


def test_lines_in_another_order_are_refused() -> None:
    data = json.loads(FILED)
    signature = data.pop("signature")
    other = {**dict(reversed(data.items())), "signature": signature}
    assert "altered" in refused((json.dumps(other, indent=2) + "\n").encode())


def test_who_signs_somebody_elses_claim_is_not_its_owner() -> None:
    assert "not signed by the owner" in refused(refiled(json.loads(FILED), OTHER))


def test_who_puts_their_own_name_into_somebody_elses_claim_breaks_the_commitment() -> None:
    data = json.loads(FILED)
    data["key"]["owner"] = OTHER.public
    assert "does not fit the commitment" in refused(refiled(data, OTHER))


def test_a_claim_without_signature_or_of_the_first_version_is_refused() -> None:
    data = json.loads(FILED)
    del data["signature"]
    assert refused(json.dumps(data).encode()) == "it is not signed"
    assert refused(json.dumps({**data, "schema": "claim/1", "digest": "ab" * 32}).encode()) == "it is not signed"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": {"seed": "00" * 32}}, "does not fit the commitment"),
        ({"key": {"salt": "11" * 32}}, "does not fit the commitment"),
        ({"key": {"classes": ["cans", "boots", "glass", "métal"]}}, "does not fit the commitment"),
        ({"key": {"rules": 5}}, "does not fit the commitment"),
        ({"key": {"alpha": 0.5}}, "does not fit the commitment"),
        ({"key": {"decision": "rule-hits"}}, "does not fit the commitment"),
        ({"key": {"owner": ""}}, "does not fit the commitment"),
        ({"key": {"carriers": "ef" * 32}}, "does not fit the commitment"),
        ({"key": {"carriers": CARRIERS, "beacon": "x", "beacon_value": "y"}}, "does not fit the commitment"),
        ({"key": {"generator": "krc/1"}}, "another version"),
        ({"key": {"decision": "best-of"}}, "the decision rule must be one of"),
        ({"key": {"beacon_value": "7"}}, "without a beacon"),
        ({"key": {"carriers": ""}}, "does not fit the commitment"),
        ({"commitment": "00" * 32}, "does not fit the commitment"),
        ({"carriers_sha256": "ef" * 32}, "committed to other carriers"),
        ({"carriers_sha256": ""}, "committed to other carriers"),
        ({"carriers": "../carriers.tar"}, "beside the claim"),
        ({"carriers": "/etc/passwd"}, "beside the claim"),
        ({"carriers": "a/b.tar"}, "beside the claim"),
        ({"carriers": ".."}, "beside the claim"),
        ({"carriers": ""}, "beside the claim"),
        ({"carriers": "a\x00b"}, "beside the claim"),
        ({"model_sha256": "AB" * 32}, "64 hexadecimal"),
        ({"model_sha256": ""}, "64 hexadecimal"),
        ({"queries_per_rule": 0}, "4096 composites"),
        ({"queries_per_rule": 683}, "4096 composites"),
        ({"queries_per_rule": 10**9}, "4096 composites"),
        ({"ordinary_per_class": 0}, "64 ordinary pictures"),
        ({"ordinary_per_class": 65}, "64 ordinary pictures"),
        ({"committed_at": "2026-01-03"}, "older than its own commitment"),
        ({"created": "2025-12-31T23:59:59Z"}, "older than its own commitment"),
        ({"created": "2026-01-01T00:30:00+01:00"}, "older than its own commitment"),
        ({"created": "yesterday"}, "'yesterday' is no time"),
        ({"created": ""}, "is no time"),
        ({"decision": "best-of"}, "unknown key"),
        ({"schema": "claim/1"}, "another version"),
        ({"schema": "commitment/2"}, "another version"),
        ({"input": {"size": [64, 100000]}}, "input sides"),
        ({"more": 1}, "unknown key"),
        ({"created": "x" * 10000}, "is no time"),
        ({"queries_per_rule": "y" * 10000}, "a whole number"),
    ],
)
def test_a_claim_altered_by_its_owner_is_still_checked(change: dict[str, Any], reason: str) -> None:
    data = json.loads(FILED)
    for name, value in change.items():
        data[name] = {**data[name], **value} if isinstance(value, dict) else value
    assert reason in refused(refiled(data))


def test_a_promised_beacon_needs_its_value_in_the_claim() -> None:
    promised = key_of(carriers=CARRIERS, beacon="drand quicknet round 1")
    with pytest.raises(ValueError, match=r"\(drand quicknet round 1\) is missing"):
        claim_of(promised)
    kept = claim_of(promised.bound(CARRIERS, "7f" * 32))
    assert parse_claim(OWNER.document(as_mapping(kept)), "x") == kept


def test_a_key_that_was_never_committed_to_its_pictures_makes_no_claim() -> None:
    with pytest.raises(ValueError, match="committed to other carriers, or to none"):
        claim_of(key_of())


def test_deep_nesting_and_huge_numbers_are_refused() -> None:
    for depth in (200, 900, 100_000):
        refused(b'{"a":' * depth + b"1" + b"}" * depth)
    refused(b'{"signature": ' + b"9" * 5000 + b"}")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    refused(data)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_bytes(FILED)
    (tmp_path / "link.json").symlink_to("real.json")
    for path in (tmp_path / "link.json", tmp_path / "absent.json"):
        with pytest.raises(RefusedInput):
            load_claim(path)


# --- The commitment ---


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write_signed(tmp_path / "owner.commitment.json", commitment_document(KEY), OWNER)
    return tmp_path / "owner.commitment.json"


def test_a_claim_opens_its_own_commitment(published: Path) -> None:
    assert check_commitment(published, CLAIM) == COMMITTED
    assert check_commitment(published, replace(CLAIM, model_sha256="00" * 32)) == COMMITTED


def test_a_commitment_tells_nothing_about_the_rules(published: Path) -> None:
    content = json.loads(published.read_text())
    told = {"schema", "commitment", "owner", "generator", "classes", "rules", "alpha", "decision", "beacon"}
    assert content.keys() == told | {"carriers_sha256", "committed_at", "signature"}
    assert KEY.seed not in published.read_text() and KEY.salt not in published.read_text()


def test_the_same_seed_under_another_salt_is_another_commitment(published: Path) -> None:
    """Otherwise whoever guesses the seed could see from the commitment that they guessed right."""
    other = claim_of(replace(KEY, salt="77" * 32))
    with pytest.raises(RefusedInput, match="reveals another key"):
        check_commitment(published, other)


OTHER_CLAIMS: dict[str, tuple[Callable[[], Claim], str]] = {
    "another seed": (lambda: claim_of(key_of(bytes(32)).bound(CARRIERS)), "reveals another key"),
    "more rules": (lambda: claim_of(replace(KEY, rules=7)), "reveals another key"),
    "another level": (lambda: claim_of(replace(KEY, alpha=0.01)), "reveals another key"),
    "another decision": (lambda: claim_of(replace(KEY, decision="rule-hits")), "reveals another key"),
    "another owner": (lambda: claim_of(key_of(owner=OTHER).bound(CARRIERS)), "reveals another key"),
    "other carriers": (lambda: claim_of(replace(KEY, carriers="ef" * 32)), "reveals another key"),
    "another time": (lambda: replace(CLAIM, committed_at="2025-01-01"), "says something else about it"),
}


@pytest.mark.parametrize("name", OTHER_CLAIMS)
def test_a_key_revealed_against_another_commitment_is_refused(name: str, published: Path) -> None:
    make, reason = OTHER_CLAIMS[name]
    claim = make()
    assert parse_claim(Signer((OTHER if "owner" in name else OWNER).secret).document(as_mapping(claim)), "x") == claim
    with pytest.raises(RefusedInput, match=reason) as caught:
        check_commitment(published, claim)
    assert caught.value.exit_code == 65 and caught.value.advice


@pytest.mark.parametrize(
    "name", ["alpha", "rules", "decision", "classes", "carriers_sha256", "beacon", "committed_at", "owner"]
)
def test_an_owner_who_publishes_something_else_than_was_committed_is_refused(name: str, tmp_path: Path) -> None:
    other = {"alpha": 0.1, "rules": 1, "classes": ["a"], "owner": OTHER.public, "committed_at": "2020-01-01"}
    write_signed(tmp_path / "c.json", {**commitment_document(KEY), name: other.get(name, "x")}, OWNER)
    with pytest.raises(RefusedInput, match="says something else about it"):
        check_commitment(tmp_path / "c.json", CLAIM)


def test_a_commitment_that_somebody_else_signed_is_refused(tmp_path: Path) -> None:
    write_signed(tmp_path / "c.json", commitment_document(KEY), OTHER)
    with pytest.raises(RefusedInput, match="somebody else signed this commitment"):
        check_commitment(tmp_path / "c.json", CLAIM)


def test_a_commitment_altered_in_any_byte_is_refused(published: Path) -> None:
    data = published.read_bytes()
    for at in range(len(data)):
        published.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(RefusedInput):
            check_commitment(published, CLAIM)


def test_a_claim_is_no_commitment(tmp_path: Path) -> None:
    (tmp_path / "claim.json").write_bytes(FILED)
    with pytest.raises(RefusedInput, match=r"it is no commitment/2 but 'claim/2'") as caught:
        check_commitment(tmp_path / "claim.json", CLAIM)
    assert "give the file that the owner published" in caught.value.advice


# --- Small things ---


@given(st.integers(4, 200), st.integers(1, 64))
def test_a_verdict_costs_no_more_than_its_budget_unless_every_rule_had_too_few(classes: int, rules: int) -> None:
    each = queries_per_rule(classes, rules)
    assert 4 <= each <= 32
    assert each == 4 or each * rules + ORDINARY_PER_CLASS * min(classes, 64) <= MAX_QUERIES


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("2026-11-21T12:00:00Z", datetime(2026, 11, 21, 12, tzinfo=UTC)),
        ("2026-11-21T12:00:00", datetime(2026, 11, 21, 12, tzinfo=UTC)),
        ("2026-11-21T12:00:00+02:00", datetime(2026, 11, 21, 10, tzinfo=UTC)),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, found: datetime) -> None:
    assert parse_time(text) == found


@pytest.mark.parametrize("text", ["", "now", "21.11.2026", "2026-13-01", "2026-11-21T25:00:00Z"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write 2026-11-21"):
        parse_time(text)


@given(st.text(max_size=30))
def test_any_other_text_is_a_time_or_refused(text: str) -> None:
    try:
        assert parse_time(text).tzinfo is UTC
    except ValueError as exc:
        assert "is no time" in str(exc)
