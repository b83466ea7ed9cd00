"""Every picture becomes the same 300x300 JPEG everywhere, or is refused with a reason."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from pi_agent.contract.errors import RefusedImage
from pi_agent.contract.manifest import RESIZE_FILTERS, InputSpec
from pi_agent.prepare import (
    decode_picture,
    decode_query,
    encode_query,
    is_query_image,
    network_input,
    prepare_bytes,
    prepare_file,
    shrink_to,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pytest removes the module's own filter


def scene(width: int = 400, height: int = 320) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 220, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 220)
    pixels[height // 2 :, width // 2 :] = 235
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def corners(data: bytes) -> list[str]:
    """What the four corners of a prepared picture look like."""
    pixels = decode_query(prepare_bytes(data).jpeg).astype(int)
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    return [names[tuple(int(v > 120) for v in pixels[y, x])] for y in (40, 260) for x in (40, 260)]


UPRIGHT = ["red", "green", "blue", "white"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int):
    turned = {
        1: scene(),
        2: scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: scene().transpose(Image.Transpose.ROTATE_180),
        4: scene().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: scene().transpose(Image.Transpose.TRANSPOSE),
        6: scene().transpose(Image.Transpose.ROTATE_90),
        7: scene().transpose(Image.Transpose.TRANSVERSE),
        8: scene().transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert corners(encoded(turned, "JPEG", exif=exif, quality=95)) == UPRIGHT


@pytest.mark.parametrize(
    ("image", "form"),
    [
        (scene(), "PNG"),
        (scene(), "WEBP"),
        (scene(), "BMP"),
        (scene(), "TIFF"),
        (scene().convert("CMYK"), "JPEG"),
        (scene().convert("CMYK"), "TIFF"),
        (scene().quantize(32), "PNG"),
        (scene().convert("RGBA"), "PNG"),
        (scene(30, 20), "PNG"),
        (scene(4000, 310), "PNG"),
        (scene(300, 300), "PNG"),
    ],
    ids=lambda x: x if isinstance(x, str) else f"{x.mode} {x.size}",
)
def test_many_kinds_of_pictures_become_the_same_scene(image: Image.Image, form: str):
    assert corners(encoded(image, form)) == UPRIGHT


def test_sixteen_bits_and_grey_become_eight_bit_rgb():
    ramp = np.tile(np.linspace(0, 65535, 400).astype(np.uint16), (400, 1))
    pixels = decode_query(prepare_bytes(encoded(Image.fromarray(ramp))).jpeg).astype(int)
    assert abs(pixels[150, 150] - 128).max() < 4 and pixels[150, 5].max() < 8 and pixels[150, 295].min() > 247
    grey = decode_query(prepare_bytes(encoded(scene().convert("L"))).jpeg)
    assert grey.shape == (300, 300, 3) and np.ptp(grey.astype(int), axis=2).max() <= 2


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    assert decode_query(prepare_bytes(encoded(clear)).jpeg).min() > 250
    palette = Image.new("P", (50, 50), 0)
    assert decode_query(prepare_bytes(encoded(palette, transparency=0)).jpeg).min() > 250


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "I", "F", "YCbCr", "LAB", "CMYK", "RGBX"])
def test_every_mode_that_a_tiff_can_have_becomes_rgb(mode: str):
    image = scene().convert("L").convert(mode) if mode in ("LA", "PA", "I", "F") else scene().convert(mode)
    pixels = decode_query(prepare_bytes(encoded(image, "TIFF")).jpeg)
    # `I` counts to 65535 and `F` is scaled by its brightest pixel, so only black and white are the same in all.
    assert pixels[260, 260].min() > 200 or mode == "I"


def test_a_phones_jpeg_with_a_second_picture_inside_is_its_first_picture():
    phone = encoded(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))])
    assert corners(phone) == UPRIGHT
    ready = encoded(scene(300, 300), "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))])
    assert b"MPF" in ready and b"MPF" not in prepare_bytes(ready).jpeg, "what is asked holds one picture"


def test_the_same_picture_is_the_same_query_in_every_process():
    data = encoded(scene(), "PNG")
    code = "import sys, pi_agent.prepare as p; print(p.prepare_bytes(sys.stdin.buffer.read()).sha256)"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == prepare_bytes(data).sha256


def test_a_ready_query_image_is_kept_byte_for_byte_and_nothing_else_is():
    ready = encode_query(np.asarray(scene(300, 300)))
    assert prepare_bytes(ready).jpeg == ready
    assert prepare_bytes(prepare_bytes(encoded(scene())).jpeg) == prepare_bytes(encoded(scene()))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(scene(300, 300), "JPEG", exif=exif)
    assert prepare_bytes(turned).jpeg != turned


def frames(form: str) -> bytes:
    return encoded(scene(), form, save_all=True, append_images=[scene().rotate(90)])


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


BAD = {
    "empty": b"",
    "text": b"hello, I am no picture",
    "gif": encoded(scene(), "GIF"),
    "animated webp": frames("WEBP"),
    "animated png": frames("PNG"),
    "pages of a tiff": frames("TIFF"),
    "cut jpeg": encoded(scene(), "JPEG")[:2000],
    "cut png": encoded(scene(), "PNG")[:-40],
    "bomb": bomb(),
    "too many pixels": encoded(Image.new("1", (8001, 8000)), "PNG"),
    "zip": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_no_still_picture_is_refused_with_a_reason(data: bytes):
    with pytest.raises(RefusedImage) as caught:
        prepare_bytes(data, "x.jpg")
    assert caught.value.exit_code == 65 and str(caught.value).startswith("x.jpg: image refused: ")
    assert "\n" not in str(caught.value)


def test_only_ordinary_files_are_read(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(encoded(scene()))
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert len(prepare_file(tmp_path / "a.png").sha256) == 64
    for name in ("link.png", "pipe.png", ".", "missing.png"):
        with pytest.raises(RefusedImage):
            prepare_file(tmp_path / name)


def test_a_bomb_is_refused_before_memory_is_taken_for_it():
    code = (
        "import resource, sys; import pi_agent.prepare as p; from pi_agent.contract.errors import RefusedImage\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))\n"
        "try: p.prepare_bytes(sys.stdin.buffer.read())\n"
        "except RefusedImage as exc: sys.exit(int('pixels' not in str(exc)))"
    )
    for name in ("bomb", "too many pixels"):
        subprocess.run([sys.executable, "-c", code], input=BAD[name], check=True)


JPEG = encoded(scene(80, 60), "JPEG")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(2, len(JPEG) - 1), st.integers(0, 255)), max_size=12), st.integers(0, 600))
def test_a_damaged_jpeg_gives_a_picture_or_a_refusal(changes: list, cut: int):
    data = bytearray(JPEG)
    for place, value in changes:
        data[place] = value
    try:
        image = prepare_bytes(bytes(data[: len(data) - cut]))
    except RefusedImage:
        return
    assert decode_query(image.jpeg).shape == (300, 300, 3)


EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, "a camera"
WHOLE = {
    "jpeg": encoded(scene(40, 30), "JPEG", exif=EXIF),
    "query": encode_query(np.zeros((300, 300, 3), np.uint8)),
    "mpo": encoded(scene(40, 30), "MPO", save_all=True, append_images=[scene(9, 9)]),
    "png": encoded(scene(40, 30), "PNG", exif=EXIF),
    "palette": encoded(scene(40, 30).quantize(8), "PNG", transparency=1),
    "webp": encoded(scene(40, 30), "WEBP", exif=EXIF),
    "bmp": encoded(scene(8, 6), "BMP"),
    "tiff": encoded(scene(8, 6), "TIFF"),
    "lzw": encoded(scene(40, 30), "TIFF", compression="tiff_lzw"),
}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(WHOLE)), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6))
def test_damage_to_any_format_gives_a_picture_or_a_refusal(name: str, changes: list):
    data = bytearray(WHOLE[name])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        image = prepare_bytes(bytes(data))
    except RefusedImage as exc:
        assert str(exc)
        return
    assert decode_query(image.jpeg).shape == (300, 300, 3)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"BM", b"RIFF"]), st.binary(max_size=300))
def test_random_bytes_are_refused(start: bytes, rest: bytes):
    with pytest.raises(RefusedImage):
        decode_picture(start + rest)


@pytest.mark.parametrize("name", RESIZE_FILTERS)
def test_the_networks_input_is_what_the_manifest_says(name: str):
    pixels = np.asarray(scene(300, 300))
    spec = InputSpec(size=(64, 64), resize=name, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    small = shrink_to(pixels, spec)
    assert small.shape == (64, 64, 3) and small.dtype == np.uint8 and small[5, 5].tolist() == [220, 20, 20]
    batch = network_input(small[None], spec)
    assert batch.shape == (1, 3, 64, 64) and batch.dtype == np.float32
    assert batch[0, :, 5, 5] == pytest.approx((np.array([220, 20, 20]) / 255 - 0.5) / 0.25, abs=1e-5)
    last = network_input(small[None], InputSpec(layout="NHWC"))
    assert last.shape == (1, 64, 64, 3) and last[0, 5, 5] == pytest.approx(np.array([220, 20, 20]) / 255)


def by_pillow(data: bytes) -> bytes:
    """The query image as Pillow alone decodes, turns and encodes it; only the resizing is OpenCV's."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if pixels.shape[:2] != (300, 300):
        shrinks = min(pixels.shape[:2]) >= 300
        pixels = cv2.resize(pixels, (300, 300), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return encoded(Image.fromarray(pixels), "JPEG", quality=95, subsampling=0)


def textured(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with noise on them: every coefficient of the JPEG matters."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray((smooth.astype(int) + rng.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8))


JPEGS = {
    "plain": {},
    "fine colours": {"subsampling": 0},
    "coarse colours": {"subsampling": 2, "quality": 30},
    "progressive": {"progressive": True, "optimize": True},
    "restart markers": {"restart_marker_blocks": 3},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "RGB inside": {"keep_rgb": True},
}


@pytest.mark.parametrize("size", [(400, 300), (611, 433), (300, 300), (600, 600), (123, 77), (1, 1), (301, 2)])
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS.keys())
def test_labels_stay_cached_because_the_bytes_are_the_ones_that_pillow_makes(options: dict, size: tuple[int, int]):
    options = dict(options)
    data = encoded(textured(*size).convert(options.pop("mode", "RGB")), "JPEG", **options)
    assert prepare_bytes(data).jpeg == (data if is_query_image(data) else by_pillow(data))


@pytest.mark.parametrize("orientation", [*range(11)])
@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "WEBP", "TIFF"])
def test_a_turned_picture_is_pixel_for_pixel_what_pillow_turns(orientation: int, form: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(textured(410, 330), form, exif=exif)
    assert prepare_bytes(data).jpeg == by_pillow(data)


def test_a_picture_larger_than_one_strip_of_the_conversion_is_not_sheared():
    data = encoded(textured(1999, 701), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(decode_picture(data), np.asarray(image))


@pytest.mark.parametrize("quality", [1, 30, 75, 92, 95, 100])
def test_opencv_encodes_the_bytes_that_pillow_encodes(quality: int):
    for seed in range(3):
        picture = textured(300, 300, seed)
        ours = encode_query(np.asarray(picture), quality)
        assert ours == encoded(picture, "JPEG", quality=quality, subsampling=0)
    upside_down = np.asarray(picture)[::-1]
    assert encode_query(upside_down) == encode_query(upside_down.copy())


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS.keys())
def test_a_jpeg_that_ends_too_early_is_refused_wherever_it_ends(options: dict, capfd: pytest.CaptureFixture[str]):
    options = dict(options)
    data = encoded(textured(64, 48).convert(options.pop("mode", "RGB")), "JPEG", **options)
    start = data.rindex(b"\xff\xda")
    for end in [*range(0, start, 7), *range(start, len(data) - 64, 13)]:
        with pytest.raises(RefusedImage):
            prepare_bytes(data[:end])
    with pytest.raises(RefusedImage, match=r"damaged \(image file is truncated \(\d+ bytes not processed\)\)"):
        prepare_bytes(data[: (start + len(data)) // 2])
    assert capfd.readouterr() == ("", ""), "libjpeg says nothing of its own"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_damage_does_to_a_jpeg_is_what_it_does_in_pillow_and_nothing_is_printed(choices: st.DataObject):
    options = dict(choices.draw(st.sampled_from(list(JPEGS.values()))))
    whole = encoded(textured(64, 48).convert(options.pop("mode", "RGB")), "JPEG", **options)
    scan = whole.index(b"\xff\xda") + 14
    data = bytearray(whole)
    places = st.tuples(st.integers(scan, len(whole) - 1), st.integers(0, 255))
    for place, value in choices.draw(st.lists(places, min_size=1, max_size=5)):
        data[place] = value
    data += choices.draw(st.binary(max_size=40))
    said = io.BytesIO()
    with stderr_of_c(said):
        try:
            ours = prepare_bytes(bytes(data)).jpeg
        except RefusedImage as exc:
            ours = str(exc)
    try:
        expected = by_pillow(bytes(data))
    except Exception as exc:
        expected = f"image: image refused: damaged ({exc})"
    assert ours == expected and said.getvalue() == b""


@contextlib.contextmanager
def stderr_of_c(caught: io.BytesIO) -> Iterator[None]:
    """Catch what C libraries write to descriptor 2 (hypothesis does not go together with `capfd`)."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as stand_in:
        os.dup2(stand_in.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        stand_in.seek(0)
        caught.write(stand_in.read())


def test_garbage_behind_the_end_of_a_jpeg_changes_nothing():
    data = encoded(textured(400, 320), "JPEG")
    assert prepare_bytes(data + b"\xff\xd9 and more \xff\xd8" * 50) == prepare_bytes(data)


def test_a_jpeg_without_a_scan_is_refused():
    data = encoded(textured(64, 48), "JPEG")
    with pytest.raises(RefusedImage, match="cannot load this image"):
        prepare_bytes(data[: data.index(b"\xff\xda")] + b"\xff\xd9")


@pytest.mark.parametrize("claims", [(60_000, 60_000), (9_000, 8_000)])
def test_a_jpeg_that_claims_too_many_pixels_is_refused_from_its_header(claims: tuple[int, int]):
    data = bytearray(encoded(textured(64, 48), "JPEG"))
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, *claims)
    with pytest.raises(RefusedImage, match="pixels"):
        prepare_bytes(bytes(data))


def test_a_pillow_that_does_not_share_memory_gives_the_same_pictures(monkeypatch: pytest.MonkeyPatch):
    data = encoded(textured(410, 330), "JPEG")
    expected = prepare_bytes(data)
    prepare = ImageFile.ImageFile.load_prepare

    def own_memory(image: ImageFile.ImageFile) -> None:
        image.im = Image.core.new(image.mode, image.size)
        prepare(image)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load_prepare", own_memory)
        assert prepare_bytes(data) == expected
    for memory in (np.empty, np.zeros):
        with monkeypatch.context() as patch:
            patch.setattr(np, "empty", memory)
            patch.setattr(Image, "frombuffer", lambda mode, size, data, *_: Image.frombytes(mode, size, bytes(data)))
            assert prepare_bytes(data) == expected
