"""The secret key: its random numbers never change, its file stays secret, its commitment binds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.claim import WatermarkKey, load_key, new_key, save_key
from pi_agent.contract.errors import CannotCreate, ConfigError
from pi_agent.contract.signed import Signer, load_signer

CLASSES = ("cardboard", "glass", "metal", "trash")
OWNER, OTHER = Signer("51" * 32), Signer("52" * 32)
POOL, BEACON, NOW = "ab" * 32, "drand quicknet round 1", "2026-01-01T00:00:00Z"
KEY = new_key(CLASSES, 6, seed=bytes(range(32)), owner=OWNER.public, committed_at=NOW)
BARE = new_key(CLASSES, 6, seed=bytes(range(32)))


def test_golden_numbers_never_change() -> None:
    stream = BARE.stream("golden")
    assert [stream.below(1000) for _ in range(8)] == [518, 429, 563, 987, 352, 328, 865, 686]
    assert BARE.stream("half").below((1 << 63) + 1) == 1576007218599727263
    items = list("abcdefgh")
    BARE.stream("order").shuffle(items)
    assert "".join(items) == "hgdfeacb"
    assert BARE.commitment() == "6b7562febf8bfdb1f136be8bef095a59ee4ecd07a1f8a8694ea718e87179b486"


@pytest.mark.parametrize("bound", [2, 3, 10, 12, 100])
def test_numbers_are_uniform(bound: int) -> None:
    stream, draws = KEY.stream("uniform"), 200 * bound
    counts = [0] * bound
    for _ in range(draws):
        counts[stream.below(bound)] += 1
    chi_square = sum((count - 200) ** 2 / 200 for count in counts)
    freedom = bound - 1
    assert chi_square < freedom + 6 * (2 * freedom) ** 0.5 + 6, counts


def test_numbers_above_a_multiple_of_the_bound_are_drawn_again() -> None:
    bound = 3 << 62  # modulo alone would draw the lower third twice as often
    stream = KEY.stream("wide")
    draws = [stream.below(bound) for _ in range(3000)]
    assert max(draws) < bound
    assert 900 < sum(d < bound // 3 for d in draws) < 1100


@settings(deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_different_purposes_give_different_streams(one: str, other: str) -> None:
    def start(purpose: str) -> list[int]:
        stream = KEY.stream(purpose)
        return [stream.below(1 << 60) for _ in range(3)]

    assert (start(one) == start(other)) == (one == other)


DECIDED = [
    {"seed": "00" * 32},
    {"salt": "01" * 32},
    {"classes": CLASSES[::-1]},
    {"classes": ("cardboard", "glass", "metal", "trash", "x")},
    {"classes": ("cardboard", 'glass", "metal', "trash", "x")},
    {"rules": 7},
    {"alpha": 1e-5},
    {"decision": "rule-hits"},
    {"owner": ""},
    {"owner": OTHER.public},
    {"carriers": POOL},
    {"carriers": "cd" * 32},
    {"carriers": POOL, "beacon": BEACON},
    {"carriers": POOL, "beacon": f"{BEACON}0"},
]


def test_everything_that_the_owner_decides_is_committed() -> None:
    commitments = {replace(KEY, **change).commitment() for change in DECIDED}
    assert len({KEY.commitment(), *commitments}) == len(DECIDED) + 1


def test_the_beacons_value_is_no_part_of_the_commitment() -> None:
    promised = replace(KEY, carriers=POOL, beacon=BEACON)
    bound = promised.bound(POOL, "7f" * 32)
    assert (bound.carriers, bound.beacon_value) == (POOL, "7f" * 32)
    assert bound.commitment() == promised.commitment()
    assert bound.bound() == bound


def test_carriers_complete_the_commitment_once_and_at_their_own_time() -> None:
    """Or an owner could publish a commitment, look at a suspect, and search for pictures whose rules suit it."""
    complete = KEY.bound(POOL, committed_at="2026-02-01T00:00:00Z")
    assert (complete.carriers, complete.committed_at) == (POOL, "2026-02-01T00:00:00Z")
    assert complete.commitment() != KEY.commitment()
    assert complete.bound(POOL, committed_at="2026-03-01T00:00:00Z") == complete
    assert KEY.bound(committed_at="2026-03-01T00:00:00Z") == KEY
    with pytest.raises(ValueError, match="committed to other carriers"):
        complete.bound("cd" * 32)


@pytest.mark.parametrize(
    ("key", "carriers", "value", "reason"),
    [
        (replace(KEY, carriers=POOL), "cd" * 32, "", "committed to other carriers"),
        (KEY, POOL, "7f", "committed without a beacon"),
        (KEY, "AB" * 32, "", "64 hexadecimal digits or empty"),
        (replace(KEY, carriers=POOL, beacon=BEACON), POOL, "two\nlines", "printable"),
        (replace(KEY, carriers=POOL, beacon=BEACON), POOL, "x" * 501, "at most 500"),
    ],
)
def test_a_key_is_bound_to_what_it_was_committed_to_only(
    key: WatermarkKey, carriers: str, value: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        key.bound(carriers, value)


def test_nothing_is_drawn_while_the_value_of_the_beacon_is_missing() -> None:
    promised = replace(KEY, carriers=POOL, beacon=BEACON)
    with pytest.raises(ValueError, match=r"drand quicknet round 1\), and its value is missing"):
        promised.bound(POOL).stream("setting")
    promised.bound(POOL, "7f").stream("setting")


def test_carriers_and_beacon_are_kept_apart_in_what_is_drawn() -> None:
    promised = replace(KEY, carriers=POOL, beacon=BEACON)
    keys = [BARE, BARE.bound(POOL), BARE.bound("cd" * 32), promised.bound(POOL, POOL), promised.bound(POOL, "7f")]
    assert len({key.stream("target").below(1 << 62) for key in keys}) == 5
    assert KEY.stream("target").below(1 << 62) == BARE.stream("target").below(1 << 62)


def test_two_new_keys_differ_and_neither_shows_its_secrets() -> None:
    one, other = new_key(CLASSES, 6), new_key(CLASSES, 6)
    assert one.seed != other.seed and one.salt != other.salt
    assert one.seed not in repr(one) and one.salt not in repr(one)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": "00"}, "64 hexadecimal"),
        ({"seed": "G" * 64}, "64 hexadecimal"),
        ({"classes": ("a", "b", "c")}, "four distinct"),
        ({"classes": ("a", "b", "c", "c")}, "four distinct"),
        ({"classes": ("a", "b", "c", "d/e")}, "without slashes"),
        ({"classes": ("a", "b", "c", "\x1b[2J")}, "printable"),
        ({"classes": ("a", "b", "c", "")}, "printable"),
        ({"classes": ("a", "b", "c", "\ud800")}, "printable"),
        ({"rules": 0}, "between 1 and 36"),
        ({"rules": 37}, "between 1 and 36"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.0}, "alpha"),
        ({"generator": "krc/1"}, "another version"),
        ({"schema": "watermark-key/1"}, "another version"),
        ({"salt": ""}, "64 hexadecimal"),
        ({"decision": "best-of"}, "holm, rule-hits"),
        ({"owner": "AB" * 32}, "64 hexadecimal"),
        ({"carriers": "ab"}, "64 hexadecimal"),
        ({"carriers": " " * 64}, "64 hexadecimal"),
        ({"beacon": BEACON}, "needs carriers that are fixed before it"),
        ({"beacon_value": "7f"}, "without a beacon"),
        ({"carriers": POOL, "beacon": "\x1b[2J"}, "printable"),
        ({"carriers": POOL, "beacon": "x" * 501}, "at most 500"),
    ],
)
def test_impossible_keys_are_refused(change: dict, reason: str) -> None:
    good = {"seed": "00" * 32, "salt": "00" * 32, "classes": CLASSES, "rules": 6, "alpha": 1e-6}
    with pytest.raises(ValueError, match=reason):
        WatermarkKey(**{**good, **change})


def test_an_empty_seed_is_no_request_for_a_random_one() -> None:
    with pytest.raises(ValueError, match="seed"):
        new_key(CLASSES, 6, seed=b"")


def test_a_saved_key_comes_back_and_is_private(tmp_path: Path) -> None:
    save_key(tmp_path / "key.json", KEY, OWNER)
    assert load_key(tmp_path / "key.json") == KEY
    assert load_signer(tmp_path / "key.json") == OWNER
    assert (tmp_path / "key.json").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    save_key(tmp_path / "key.json", KEY, OWNER)
    with pytest.raises(CannotCreate) as caught:
        save_key(tmp_path / "key.json", new_key(CLASSES, 6), OWNER)
    assert caught.value.exit_code == 73
    assert load_key(tmp_path / "key.json") == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    save_key(path, KEY, OWNER)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load_key(path)
    assert caught.value.exit_code == 78
    assert "chmod 600" in caught.value.advice


SIGNING_ALONE = b'{"signing_secret": "' + b"51" * 32 + b'"}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seed": 5}', b'{"unknown": 1}', b"\xff\xfe", SIGNING_ALONE])
def test_a_damaged_or_missing_key_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.json"
    with pytest.raises(ConfigError):
        load_key(path)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_key(path)


def test_a_key_file_with_the_signing_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    save_key(tmp_path / "key.json", KEY, OTHER)
    with pytest.raises(ConfigError, match="its signing key is not its owner's"):
        load_key(tmp_path / "key.json")


def test_a_key_of_the_first_version_is_refused_with_the_reason(tmp_path: Path) -> None:
    old = {"seed": "00" * 32, "classes": list(CLASSES), "rules": 6, "alpha": 1e-6, "generator": "krc/1"}
    (tmp_path / "key.json").write_text(json.dumps({**old, "schema": "watermark-key/1"}))
    (tmp_path / "key.json").chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load_key(tmp_path / "key.json")
    assert caught.value.exit_code == 78 and caught.value.advice


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    save_key(tmp_path / "key.json", KEY, OWNER)
    data = json.loads((tmp_path / "key.json").read_text())
    assert data["seed"] == bytes(range(32)).hex()
    assert data["classes"] == list(CLASSES)
