"""The claim file: what is in it comes back, any damage is noticed, nothing in it leads elsewhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.claim import Claim, load_claim, new_key, parse_claim, save_claim
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.manifest import InputSpec

KEY = new_key(("boots", "cans", "glass", "métal"), 6, seed=bytes(range(32)))
CLAIM = Claim(
    KEY, KEY.commitment(), "ab" * 32, "2026-01-01T00:00:00Z", "carriers.tar", "cd" * 32, InputSpec(size=(48, 64))
)


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("claim") / "claim.json"
    save_claim(path, CLAIM)
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_bytes()


def refiled(data: dict[str, Any]) -> bytes:
    """The file of somebody who alters a claim on purpose and renews its digest."""
    content = {k: v for k, v in data.items() if k != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "digest": hashlib.sha256(canonical.encode()).hexdigest()}).encode()


def test_a_saved_claim_comes_back(filed: bytes, tmp_path: Path) -> None:
    (tmp_path / "claim.json").write_bytes(filed)
    assert load_claim(tmp_path / "claim.json") == CLAIM


def test_the_order_of_keys_and_the_spelling_do_not_matter(filed: bytes) -> None:
    data = json.loads(filed)
    assert parse_claim(json.dumps(dict(reversed(data.items())), ensure_ascii=False).encode(), "x") == CLAIM
    assert parse_claim(refiled(data), "x") == CLAIM


def parsed_or_refused(data: bytes) -> Claim | None:
    try:
        return parse_claim(data, "claim.json")
    except RefusedInput as exc:
        assert exc.exit_code == 65
        return None


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_an_altered_byte_is_refused_or_changes_nothing(filed: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(filed) - 1))
    new = data.draw(st.one_of(st.binary(max_size=2), st.sampled_from([b"0", b"1", b" ", b'"', b","])))
    kept = data.draw(st.integers(0, 2))
    assert parsed_or_refused(filed[:at] + new + filed[at + kept :]) in (None, CLAIM)


@pytest.mark.parametrize("name", ["model_sha256", "carriers_sha256", "commitment", "digest", "created"])
def test_a_changed_digit_anywhere_is_noticed(filed: bytes, name: str) -> None:
    data = json.loads(filed)
    data[name] = ("1" if data[name][0] == "0" else "0") + data[name][1:]
    with pytest.raises(RefusedInput, match="digest does not fit"):
        parse_claim(json.dumps(data).encode(), "x")


def test_a_claim_without_digest_is_refused(filed: bytes) -> None:
    data = json.loads(filed)
    del data["digest"]
    with pytest.raises(RefusedInput, match="digest"):
        parse_claim(json.dumps(data).encode(), "x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": {"seed": "00" * 32}}, "does not fit the commitment"),
        ({"key": {"classes": ["cans", "boots", "glass", "métal"]}}, "does not fit the commitment"),
        ({"key": {"rules": 5}}, "does not fit the commitment"),
        ({"key": {"alpha": 0.5}}, "does not fit the commitment"),
        ({"carriers": "../carriers.tar"}, "beside the claim"),
        ({"carriers": "/etc/passwd"}, "beside the claim"),
        ({"carriers": "a/b.tar"}, "beside the claim"),
        ({"carriers": ".."}, "beside the claim"),
        ({"carriers": ""}, "beside the claim"),
        ({"carriers": "a\x00b"}, "beside the claim"),
        ({"model_sha256": "AB" * 32}, "64 hexadecimal"),
        ({"carriers_sha256": ""}, "64 hexadecimal"),
        ({"queries_per_rule": 0}, "queries_per_rule"),
        ({"queries_per_rule": 10**9}, "queries_per_rule"),
        ({"decision": "best-of"}, "another version"),
        ({"schema": "claim/2"}, "another version"),
        ({"input": {"size": [64, 100000]}}, "input sides"),
        ({"more": 1}, "unknown key"),
        ({"created": "x" * 10000, "queries_per_rule": "y" * 10000}, "a whole number"),
    ],
)
def test_a_claim_altered_on_purpose_is_still_checked(filed: bytes, change: dict[str, Any], reason: str) -> None:
    data = json.loads(filed)
    for name, value in change.items():
        data[name] = {**data[name], **value} if isinstance(value, dict) else value
    with pytest.raises(RefusedInput, match=reason) as caught:
        parse_claim(refiled(data), "claim.json")
    assert len(str(caught.value)) < 400


def test_deep_nesting_and_huge_numbers_are_refused() -> None:
    for depth in (200, 900, 100_000):
        assert parsed_or_refused(b'{"a":' * depth + b"1" + b"}" * depth) is None
    assert parsed_or_refused(b'{"digest": ' + b"9" * 5000 + b"}") is None


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    assert parsed_or_refused(data) is None


def test_only_a_regular_file_is_read(tmp_path: Path, filed: bytes) -> None:
    (tmp_path / "real.json").write_bytes(filed)
    (tmp_path / "link.json").symlink_to("real.json")
    for path in (tmp_path / "link.json", tmp_path / "absent.json"):
        with pytest.raises(RefusedInput):
            load_claim(path)
