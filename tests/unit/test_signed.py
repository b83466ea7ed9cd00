"""Signed documents: what was signed comes back, and no altered byte passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_agent.contract.errors import CannotCreate, ConfigError, RefusedInput
from pi_agent.contract.signed import (
    Signer,
    load_signer,
    new_signer,
    parse_signed,
    read_signed,
    save_signer,
    write_signed,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
SIGNER, OTHER = Signer("01" * 32), Signer("02" * 32)
SCHEMA = "note/1"
CONTENT = {"schema": SCHEMA, "name": "métal", "figures": [1, 0.5, 1e-06, -0.0, True, None], "more": {"b": 2, "a": 1}}
GOLDEN = (
    "9225d84495826627694fc9b31adad313a288d52e23e4668505b9bd8716cb4833"
    "807932696b6b061d4902f699916c9510057514da1699cd862d8b254eab727a05"
)
DOCUMENT = SIGNER.document(CONTENT)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
contents = st.dictionaries(st.text().filter(lambda key: key != "signature"), anything, max_size=6).map(
    lambda content: {**content, "schema": SCHEMA}
)


def refused(data: bytes) -> str:
    """The reason; fails where the document is accepted."""
    with pytest.raises(RefusedInput) as caught:
        parse_signed(data, "note.json", "ask again")
    assert caught.value.exit_code == 65
    assert "\n" not in str(caught.value)
    return str(caught.value.fields["reason"])


# Secret and public keys of the test vectors in RFC 8032, section 7.1.
@pytest.mark.parametrize(
    ("secret", "public"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        ),
    ],
)
def test_public_keys_are_those_of_rfc_8032(secret: str, public: str) -> None:
    assert Signer(secret).public == public


def test_the_bytes_of_a_document_never_change() -> None:
    assert DOCUMENT.endswith(b"\n") and DOCUMENT.isascii()
    assert list(json.loads(DOCUMENT)) == [*CONTENT, "signature"]
    assert json.loads(DOCUMENT)["signature"] == {"key": SIGNER.public, "value": GOLDEN}


@given(contents)
def test_any_content_comes_back_with_its_signer(content: dict[str, Any]) -> None:
    document = SIGNER.document(content)
    found, key = parse_signed(document, "x")
    assert json.dumps(found) == json.dumps(content)
    assert key == SIGNER.public
    assert SIGNER.document(content) == document


@given(contents, contents)
def test_different_contents_have_different_signatures(one: dict[str, Any], other: dict[str, Any]) -> None:
    values = [json.loads(SIGNER.document(content))["signature"]["value"] for content in (one, other)]
    same = json.dumps(one) == json.dumps(other)
    assert (values[0] == values[1]) == same


REPLACEMENTS = [b"0", b"1", b"a", b"f", b"A", b" ", b'"', b",", b"\n", b"\\", b"}", b"\x00", b"\xff"]


@pytest.mark.parametrize("at", range(len(DOCUMENT)))
def test_no_altered_byte_is_accepted(at: int) -> None:
    for new in REPLACEMENTS:
        if new != DOCUMENT[at : at + 1]:
            refused(DOCUMENT[:at] + new + DOCUMENT[at + 1 :])
        refused(DOCUMENT[:at] + new + DOCUMENT[at:])
    refused(DOCUMENT[:at] + bytes([DOCUMENT[at] ^ 1]) + DOCUMENT[at + 1 :])
    refused(DOCUMENT[:at] + DOCUMENT[at + 1 :])
    refused(DOCUMENT[:at])


@settings(max_examples=300)
@given(st.data())
def test_no_altered_stretch_of_bytes_is_accepted(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(DOCUMENT)))
    until = data.draw(st.integers(at, len(DOCUMENT)))
    changed = DOCUMENT[:at] + data.draw(st.binary(max_size=8)) + DOCUMENT[until:]
    if changed != DOCUMENT:
        refused(changed)


def respelled(**changes: Any) -> bytes:
    return (json.dumps({**json.loads(DOCUMENT), **changes}, indent=2) + "\n").encode()


def test_another_spelling_of_the_same_content_is_refused() -> None:
    data = json.loads(DOCUMENT)
    signature = data["signature"]
    assert "rewritten" in refused(respelled(signature={**signature, "key": signature["key"].upper()}))
    assert "rewritten" in refused(respelled(signature={**signature, "value": signature["value"].upper()}))
    assert "rewritten" in refused(respelled(signature={**signature, "more": 1}))
    for other in (
        DOCUMENT + b" ",
        DOCUMENT + b"\n",
        DOCUMENT.replace(b"\n", b"\r\n"),
        json.dumps(data).encode(),
        respelled(after=1),
        (json.dumps({"signature": data.pop("signature"), **data}, indent=2) + "\n").encode(),
    ):
        assert "rewritten" in refused(other)
    for other in (
        b" " + DOCUMENT,
        DOCUMENT.replace(b"\\u00e9", "é".encode()),
        DOCUMENT.replace(b"\\u00e9", b"\\u00E9"),
        DOCUMENT.replace(b"1e-06", b"0.000001"),
        respelled(more=dict(reversed(CONTENT["more"].items()))),
        DOCUMENT.replace(b'{\n  "schema"', b'{\n  "name": "x",\n  "schema"'),  # the same key twice: the last one counts
    ):
        assert "does not fit" in refused(other)
    refused(b"\xef\xbb\xbf" + DOCUMENT)


def test_a_document_that_is_nobodys_is_refused() -> None:
    data = json.loads(DOCUMENT)
    value = data["signature"]["value"]
    for signature in ("x", [], {}, {"key": SIGNER.public}, {"value": value}, {"key": 1, "value": value}):
        assert "rewritten" in refused(respelled(signature=signature))
    assert "rewritten" in refused(respelled(signature={"key": SIGNER.public[:-2], "value": value}))
    assert "does not fit" in refused(respelled(signature={"key": OTHER.public, "value": value}))
    assert "does not fit" in refused(respelled(signature={"key": "ff" * 32, "value": value}))
    assert refused(respelled(signature=None)) == "it is not signed"
    del data["signature"]
    assert refused(json.dumps(data).encode()) == "it is not signed"


def test_a_signature_of_the_same_key_for_something_else_is_worth_nothing() -> None:
    """The signed bytes begin with words of ours, so what the key signs elsewhere is no signature here."""
    value = PRIVATE.sign((json.dumps(CONTENT, indent=2) + "\n").encode()).hex()
    assert "does not fit" in refused(respelled(signature={"key": SIGNER.public, "value": value}))


def test_who_signs_again_is_another_signer() -> None:
    document = OTHER.document(CONTENT)
    assert parse_signed(document, "x")[1] == OTHER.public != SIGNER.public


def signed_text(text: str) -> bytes:
    """What an adversary signs who does not use `Signer`; `text` is a JSON object without its last brace."""
    value = PRIVATE.sign(b"magpie signed document\n" + text.encode() + b"\n}\n").hex()
    return f'{text},\n  "signature": {{\n    "key": "{SIGNER.public}",\n    "value": "{value}"\n  }}\n}}\n'.encode()


@pytest.mark.parametrize("depth", [*range(50, 1050, 50), 100_000])
def test_deep_nesting_ends_in_no_traceback_also_when_it_is_signed(depth: int) -> None:
    data = signed_text('{\n  "schema": "note/1",\n  "a": ' + "[" * depth + "]" * depth)
    try:
        assert parse_signed(data, "x")[1] == SIGNER.public
    except RefusedInput:
        assert depth > 200
    else:
        assert depth < 1050


def test_an_adversarys_own_spelling_may_be_signed_and_is_still_one_spelling() -> None:
    data = signed_text('{"schema":"note/1" , "a":1, "a":2')
    assert parse_signed(data, "x")[0] == {"schema": SCHEMA, "a": 2}
    assert "does not fit" in refused(data.replace(b" , ", b", "))


def test_huge_numbers_and_arbitrary_bytes_are_refused() -> None:
    for text in (b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 5000):
        refused(DOCUMENT.replace(b"0.5", text))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_document(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize("content", [{}, {"schema": 1}, {"schema": SCHEMA, "signature": {}}])
def test_what_names_no_schema_or_is_signed_already_is_not_signed(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="names its schema"):
        SIGNER.document(content)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_json_is_not_signed(number: float) -> None:
    with pytest.raises(ValueError):
        SIGNER.document({"schema": SCHEMA, "p": number})


def test_a_written_document_is_read_and_its_schema_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_signed(path, CONTENT, SIGNER)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_bytes() == DOCUMENT
    assert read_signed(path, SCHEMA) == (CONTENT, SIGNER.public)
    with pytest.raises(RefusedInput, match=r"it is no claim/2 but 'note/1'"):
        read_signed(path, "claim/2")
    (tmp_path / "link.json").symlink_to("note.json")
    for other in (tmp_path / "link.json", tmp_path / "absent.json", tmp_path):
        with pytest.raises(RefusedInput):
            read_signed(other, SCHEMA)


@pytest.mark.parametrize("secret", ["", "00", "G" * 64, "AB" * 32, "00" * 33, " " * 64])
def test_what_is_no_signing_key_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Signer(secret)


def test_two_new_signers_differ_and_do_not_show_their_secret() -> None:
    one, other = new_signer(), new_signer()
    assert one.public != other.public
    assert one.secret not in repr(one)


def test_a_saved_signing_key_comes_back_is_private_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "report.key"
    save_signer(path, SIGNER)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signer(path) == SIGNER
    with pytest.raises(CannotCreate) as caught:
        save_signer(path, OTHER)
    assert caught.value.exit_code == 73
    (tmp_path / "dangling.key").symlink_to("nowhere")
    with pytest.raises(CannotCreate):
        save_signer(tmp_path / "dangling.key", OTHER)
    assert load_signer(path) == SIGNER
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o610])
def test_a_signing_key_that_others_may_use_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "report.key"
    save_signer(path, SIGNER)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load_signer(path)
    assert caught.value.exit_code == 78
    assert f"chmod 600 {path}" in caught.value.advice


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"signing_secret": 5}', b'{"signing_secret": "AB"}', b"\xff\xfe", None]
)
def test_a_damaged_or_missing_signing_key_is_a_configuration_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load_signer(path)
    assert caught.value.exit_code == 78 and caught.value.advice
