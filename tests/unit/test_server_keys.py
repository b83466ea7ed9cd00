"""API keys: who is let in, which files are refused, and that nothing of a key leaks."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

import pytest

from pi_agent.contract.errors import ConfigError, Exit
from training_host.server.keys import ANONYMOUS, KeyRing, load_keys

LONG = "k" * 32


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys.txt"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_clients_are_found_by_their_keys(tmp_path: Path) -> None:
    ring = load_keys(key_file(tmp_path, f"# two clients\n\nalice:{LONG}1\n  bob : {LONG}2:with:colons \n"))
    assert ring.clients == ("alice", "bob")
    assert ring.identify(f"{LONG}1") == "alice"
    assert ring.identify(f"{LONG}2:with:colons") == "bob"
    for wrong in (None, "", LONG, f"{LONG}1 ", f"{LONG}1\n", "é", "\udcff"):
        assert ring.identify(wrong) is None


def test_a_client_may_have_two_keys_while_it_changes_them(tmp_path: Path) -> None:
    ring = load_keys(key_file(tmp_path, f"pi:{LONG}old\npi:{LONG}new\n"))
    assert ring.clients == ("pi",)
    assert ring.identify(f"{LONG}old") == ring.identify(f"{LONG}new") == "pi"


def test_without_keys_everybody_is_anonymous() -> None:
    assert KeyRing().is_open
    assert KeyRing().identify(None) == KeyRing().identify("whatever") == ANONYMOUS
    assert KeyRing().clients == (ANONYMOUS,)


def test_every_key_is_compared_even_after_a_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = load_keys(key_file(tmp_path, "".join(f"c{i}:{LONG}{i}\n" for i in range(5))))
    compared = []
    genuine = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(len(a))
        return genuine(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for token in (f"{LONG}0", f"{LONG}4", "x", None):
        compared.clear()
        ring.identify(token)
        assert compared == [32] * 5


def test_short_keys_are_named_by_their_client(tmp_path: Path) -> None:
    assert load_keys(key_file(tmp_path, f"weak:secret\nstrong:{LONG}\n")).short == ("weak",)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="others may read") as caught:
        load_keys(key_file(tmp_path, f"pi:{LONG}", mode))
    assert caught.value.exit_code == Exit.CONFIGURATION
    assert "chmod 600" in caught.value.advice


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# none\n",
        "sesame",
        "pi:",
        ":sesame",
        "p i:sesame",
        "pi:open sesame",
        "pi:sesame\x00",
        f"a:{LONG}\nb:{LONG}",
    ],
)
def test_malformed_files_are_refused_without_quoting_a_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_keys(key_file(tmp_path, text))
    assert "sesame" not in str(caught.value) + caught.value.advice
    assert LONG not in str(caught.value)


def test_the_ring_does_not_show_its_digests(tmp_path: Path) -> None:
    assert "b'" not in repr(load_keys(key_file(tmp_path, f"pi:{LONG}")))


def test_what_is_no_readable_file_is_a_configuration_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "binary").write_bytes(b"pi:\xff\xfe")
    (tmp_path / "binary").chmod(0o600)
    for path in (tmp_path / "absent", tmp_path, tmp_path / "fifo", tmp_path / "binary"):
        with pytest.raises(ConfigError):
            load_keys(path)
