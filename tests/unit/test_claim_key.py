"""The secret key: its random numbers never change, its file stays secret, its commitment binds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.claim import WatermarkKey, load_key, new_key, save_key
from pi_agent.contract.errors import CannotCreate, ConfigError

CLASSES = ("cardboard", "glass", "metal", "trash")
KEY = new_key(CLASSES, 6, seed=bytes(range(32)))


def test_golden_numbers_never_change() -> None:
    stream = KEY.stream("golden")
    assert [stream.below(1000) for _ in range(8)] == [562, 868, 205, 761, 269, 369, 879, 551]
    assert KEY.stream("half").below((1 << 63) + 1) == 265756866541042723
    items = list("abcdefgh")
    KEY.stream("order").shuffle(items)
    assert "".join(items) == "abhcdfeg"
    assert KEY.commitment() == "d0c657e586c33798d1948ad4bebdc78a67725249e9222c57c28c2d5d0d97bc49"


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


def test_every_field_that_decides_the_rules_is_committed() -> None:
    variants = [
        new_key(CLASSES, 6, seed=bytes(32)),
        new_key(CLASSES[::-1], 6, seed=bytes(range(32))),
        new_key(CLASSES, 7, seed=bytes(range(32))),
        new_key(CLASSES, 6, alpha=1e-5, seed=bytes(range(32))),
        new_key(("cardboard", 'glass", "metal', "trash", "x"), 6, seed=bytes(range(32))),
        new_key(("cardboard", "glass", "metal", "trash", "x"), 6, seed=bytes(range(32))),
    ]
    assert len({KEY.commitment(), *(v.commitment() for v in variants)}) == 7


def test_two_new_keys_differ_and_neither_shows_its_seed() -> None:
    one, other = new_key(CLASSES, 6), new_key(CLASSES, 6)
    assert one.seed != other.seed
    assert one.seed not in repr(one)


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
        ({"generator": "krc/2"}, "another version"),
        ({"schema": "watermark-key/2"}, "another version"),
    ],
)
def test_impossible_keys_are_refused(change: dict, reason: str) -> None:
    good = {"seed": "00" * 32, "classes": CLASSES, "rules": 6, "alpha": 1e-6}
    with pytest.raises(ValueError, match=reason):
        WatermarkKey(**{**good, **change})


def test_an_empty_seed_is_no_request_for_a_random_one() -> None:
    with pytest.raises(ValueError, match="seed"):
        new_key(CLASSES, 6, seed=b"")


def test_a_saved_key_comes_back_and_is_private(tmp_path: Path) -> None:
    save_key(tmp_path / "key.json", KEY)
    assert load_key(tmp_path / "key.json") == KEY
    assert (tmp_path / "key.json").stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    save_key(tmp_path / "key.json", KEY)
    with pytest.raises(CannotCreate) as caught:
        save_key(tmp_path / "key.json", new_key(CLASSES, 6))
    assert caught.value.exit_code == 73
    assert load_key(tmp_path / "key.json") == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    save_key(path, KEY)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load_key(path)
    assert caught.value.exit_code == 78
    assert "chmod 600" in caught.value.advice


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seed": 5}', b'{"unknown": 1}', b"\xff\xfe"])
def test_a_damaged_or_missing_key_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.json"
    with pytest.raises(ConfigError):
        load_key(path)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_key(path)


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    save_key(tmp_path / "key.json", KEY)
    data = json.loads((tmp_path / "key.json").read_text())
    assert data["seed"] == bytes(range(32)).hex()
    assert data["classes"] == list(CLASSES)
