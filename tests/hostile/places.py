"""Files that are no models, and paths that are no files."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import socket
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import json_format, text_format

from tests.hostile.suspects import HONEST, Hostile, model
from tests.support_models import save

DATA = HONEST.SerializeToString()


class Bomb:
    """What a pickle would do if somebody opened it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch canary/exploded",)


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../escaped.onnx", DATA)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../escaped.onnx"))
    return stream.getvalue()


def other_files() -> Iterator[Hostile]:
    """Bytes that are something else."""
    yield model("empty", b"", "no graph in it")
    yield model("newline", b"\n", "cut short")
    yield model("zeros", bytes(4096), "field number 0 does not exist")
    yield model("random", random.Random(4).randbytes(5000), "refused")
    yield model("half-a-model", DATA[: len(DATA) // 2], "reaches beyond its message")
    yield model("last-byte-missing", DATA[:-1], "refused")
    yield model("rubbish-behind", DATA + b"\x00" * 64, "field number 0 does not exist")
    yield model("gzip", gzip.compress(DATA), "refused")
    yield model("zip", zipped(), "refused")
    yield model("tar", tarred(), "refused")
    yield model("pickle", pickle.dumps(Bomb()), "refused")
    yield model("html", b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n", "refused")
    yield model("png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64), "refused")
    yield model("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(2048), "refused")
    yield model("elf", b"\x7fELF\x02\x01\x01" + bytes(512), "refused")
    yield model("protobuf-as-text", text_format.MessageToString(HONEST).encode(), "refused")
    yield model("protobuf-as-json", json_format.MessageToJson(HONEST).encode(), "refused")
    yield model("ort-format", b"\x20\x00\x00\x00ORTM" + bytes(200), "ONNX Runtime's own format")
    yield model("ort-format-inside-a-model", b"\x12\x16abORTM is the producer" + DATA, "ONNX Runtime's own format")


def paths() -> Iterator[Hostile]:
    """Names that lead elsewhere, wait for ever or never end."""

    def symlink(folder: Path) -> Path:
        (folder / "suspect.onnx").symlink_to(save(DATA, folder / "real.onnx"))
        return folder / "suspect.onnx"

    def symlink_to_secret(folder: Path) -> Path:
        (folder / "suspect.onnx").symlink_to("../canary/secret.bin")
        return folder / "suspect.onnx"

    def circle(folder: Path) -> Path:
        (folder / "suspect.onnx").symlink_to("suspect.onnx")
        return folder / "suspect.onnx"

    def hard_link(folder: Path) -> Path:
        os.link(save(DATA, folder / "real.onnx"), folder / "suspect.onnx")
        return folder / "suspect.onnx"

    def fifo(folder: Path) -> Path:
        os.mkfifo(folder / "suspect.onnx")
        return folder / "suspect.onnx"

    def unix_socket(folder: Path) -> Path:
        place = os.open(folder, os.O_RDONLY)  # a path of at most 107 bytes is allowed
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(f"/proc/self/fd/{place}/suspect.onnx")
        os.close(place)
        return folder / "suspect.onnx"

    def huge(folder: Path) -> Path:
        with (folder / "suspect.onnx").open("wb") as stream:
            stream.truncate(2**40)
        return folder / "suspect.onnx"

    def saved_model(folder: Path) -> Path:
        (folder / "suspect.onnx").mkdir()
        return folder / "suspect.onnx"

    yield Hostile("symbolic-link", symlink, ("a symbolic link",))
    yield Hostile("symbolic-link-to-a-secret", symlink_to_secret, ("a symbolic link",))
    yield Hostile("symbolic-link-to-itself", circle, ("a symbolic link",))
    yield Hostile("hard-link", hard_link, ("several names",))
    yield Hostile("fifo", fifo, ("not a regular file",))
    yield Hostile("socket", unix_socket, ("refused",))
    yield Hostile("folder", saved_model, ("it is a folder",))
    yield Hostile("absent", lambda folder: folder / "absent.onnx", ("No such file",))
    yield Hostile("device-without-end", lambda _: Path("/dev/zero"), ("not a regular file",))
    yield Hostile("terabyte", huge, ("larger than",))
    yield Hostile("name-with-escapes", lambda f: save(b"?", f / "a\x1b]0;owned\x07\u202e.onnx"), ("refused",))
