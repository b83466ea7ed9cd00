"""Prepare a picture for the oracle: decode it safely, orient it, make it 300x300 RGB, encode JPEG exactly once.

Nobody re-encodes afterwards: what is stored is what is asked, and its SHA-256 is its name.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from pi_agent.contract.errors import RefusedImage, RefusedInput
from pi_agent.contract.files import read_limited
from pi_agent.contract.images import JPEG_QUALITY, MAX_QUERY_BYTES, SIDE, QueryImage
from pi_agent.contract.manifest import InputSpec

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_PIXELS = 64_000_000
"""Read from the header before anything is decoded: a 48-megapixel phone photo fits, a decompression bomb does not."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

# EXIF oddities and Pillow's softer bomb warning: our own limits decide. Once and for all, because the threads of a
# server share the filters.
warnings.filterwarnings("ignore", module="PIL")

Pixels = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)
_CV_FILTERS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}
_PILLOW_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest-centre": Image.Resampling.NEAREST,
}
_ORIENTATION = 0x0112
_TURNS = {2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0)}
"""By orientation: are rows and columns exchanged, and what is mirrored then (OpenCV's code: 1 left and right, 0 top and
bottom, -1 both)."""

_STRIP_BYTES = 256 * 1024


def prepare_file(path: Path) -> QueryImage:
    """Prepare the picture in a file. Raises `RefusedImage` (65) with the reason."""
    try:
        data = read_limited(path, MAX_FILE_BYTES)
    except RefusedInput as exc:
        raise RefusedImage(path=path, reason=exc.fields["reason"], hint=exc.advice) from exc
    return prepare_bytes(data, str(path))


def prepare_bytes(data: bytes, where: str = "image") -> QueryImage:
    """Prepare an encoded picture. Bytes that already are a query image are kept as they are.

    CMYK becomes RGB, 16-bit becomes 8-bit, transparency is laid on white, EXIF orientation is applied. Animations,
    truncated files, foreign formats and pictures above 64 megapixels are refused with `RefusedImage` (65).
    """
    with _opened(data, where) as image:
        pixels, upright = _decode(image)
        ready = upright and _looks_ready(image, data)
    return QueryImage.of(data if ready else encode_query(resize(pixels, (SIDE, SIDE))))


def is_query_image(data: bytes) -> bool:
    """True for bytes whose header says upright 300x300 RGB JPEG of at most 1 MiB."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return _looks_ready(image, data) and image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # as in `_opened`
        return False


def _looks_ready(image: Image.Image, data: bytes) -> bool:
    right = image.format == "JPEG" and image.mode == "RGB" and image.size == (SIDE, SIDE)
    return right and len(data) <= MAX_QUERY_BYTES


def decode_query(jpeg: bytes, where: str = "image") -> Pixels:
    """Decode a ready query image to uint8, shape (300, 300, 3), RGB. Raises `RefusedImage` (65) for anything else."""
    if not is_query_image(jpeg):
        raise RefusedImage(path=where, reason=f"not a {SIDE}x{SIDE} RGB JPEG", hint="let pi-agent prepare it")
    return decode_picture(jpeg, where)


def decode_picture(data: bytes, where: str = "image") -> Pixels:
    """Decode any accepted picture to uint8, shape (height, width, 3), RGB, upright. Raises `RefusedImage` (65)."""
    with _opened(data, where) as image:
        return _decode(image)[0]


@contextlib.contextmanager
def _opened(data: bytes, where: str) -> Iterator[ImageFile.ImageFile]:
    """Read the header; whatever is wrong with the picture, then or inside the block, becomes `RefusedImage`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise RefusedImage(path=where, reason=f"{image.width}x{image.height} pixels are too many")
            # A phone's MPO holds depth maps or previews beside the picture; the first frame is the picture.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise RefusedImage(path=where, reason="it is animated or has several pages")
            yield image
    except RefusedImage:
        raise
    except UnidentifiedImageError as exc:
        raise RefusedImage(path=where, reason="no picture of a known format") from exc
    except Image.DecompressionBombError as exc:
        raise RefusedImage(path=where, reason="its header claims too many pixels") from exc
    except MemoryError as exc:
        raise RefusedImage(path=where, reason="it does not fit into memory") from exc
    except Exception as exc:
        # Pillow's decoders raise anything on damaged files; the text names the damage ("image file is truncated").
        raise RefusedImage(path=where, reason=f"damaged ({exc})", hint="copy or export the picture again") from exc


def _decode(image: ImageFile.ImageFile) -> tuple[Pixels, bool]:
    """The pixels, upright, and whether they were so in the file."""
    pixels = _load_shared(image) if image.format in ("JPEG", "MPO") and image.mode == "RGB" and image.tile else None
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)
    if pixels is not None:
        return _turn(pixels, orientation), orientation == 1
    upright = ImageOps.exif_transpose(image) if orientation in _TURNS else image
    return np.asarray(_to_rgb(upright)), orientation == 1


def _load_shared(image: ImageFile.ImageFile) -> Pixels | None:
    """Let Pillow decode straight into an array: its usual way out, over `bytes`, costs half as much as decoding.

    It is Pillow that decodes, and not OpenCV, because it raises where a file ends too early and leaves stderr alone.
    """
    shared = np.empty((image.height, image.width, 4), np.uint8)
    shared[-1, -1] = 1  # fresh memory is often zero already, and then the next change would not be one
    mapped = Image.frombuffer("RGBX", image.size, shared, "raw", "RGBX", 0, 1)
    shared[-1, -1] = 0
    if mapped.getpixel((image.width - 1, image.height - 1)) != (0, 0, 0, 0):
        return None  # a Pillow that copies
    image.im = mapped.im
    image.load()
    if shared[-1, -1, 3] != 255:
        return None  # a Pillow that decodes into memory of its own: where it has written, 255 fills the fourth byte
    return _drop_fourth(shared)


def _drop_fourth(pixels: Pixels) -> Pixels:
    """(height, width, 4) -> (height, width, 3) in the same memory, strip by strip: a large photo fits in only once."""
    height, width = pixels.shape[:2]
    packed = pixels.reshape(-1)[: height * width * 3].reshape(height, width, 3)
    rows = max(1, _STRIP_BYTES // (width * 4))
    for top in range(0, height, rows):  # what is overwritten has been read: three bytes take less room than four
        packed[top : top + rows] = cv2.cvtColor(pixels[top : top + rows], cv2.COLOR_RGBA2RGB)
    return packed


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    exchanged, mirrored = _TURNS.get(orientation, (False, None))
    if exchanged:
        pixels = cv2.transpose(pixels)
    return pixels if mirrored is None else np.asarray(cv2.flip(pixels, mirrored), dtype=np.uint8)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), posinf=0.0)
        shares = (values / max(float(values.max()), 1.0)).clip(0, 1)
        return Image.fromarray((shares * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize to (height, width): area filter where both sides shrink, cubic otherwise."""
    height, width = size
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    out = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(out, dtype=np.uint8)


def encode_query(pixels: Pixels, quality: int = JPEG_QUALITY) -> bytes:
    """Encode uint8 (300, 300, 3) RGB as JPEG without chroma subsampling."""
    if pixels.shape != (SIDE, SIDE, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"a query image is uint8 ({SIDE}, {SIDE}, 3), not {pixels.dtype} {pixels.shape}")
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality, *sampling))[1])


def shrink_to(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Resize one uint8 RGB picture to the network's (height, width) with the manifest's filter; still uint8, HWC.

    This is the victim's filter: a substitute that shrinks differently starts with a silent error.
    """
    if pixels.shape[:2] == spec.size:
        return pixels
    return np.asarray(resample(pixels, spec.resize, spec.size), dtype=np.uint8)


def resample(array: npt.NDArray[Scalar], name: str, size: tuple[int, int]) -> npt.NDArray[Scalar]:
    """Resize to (height, width) with one of `RESIZE_FILTERS`, as the library in question does it.

    uint8 (h, w, 3), or float32 (h, w), of which nothing is rounded: the filters are linear.
    """
    height, width = size
    if name in _PILLOW_FILTERS:
        return np.asarray(Image.fromarray(array).resize((width, height), _PILLOW_FILTERS[name]), dtype=array.dtype)
    return np.asarray(cv2.resize(array, (width, height), interpolation=_CV_FILTERS[name]), dtype=array.dtype)


def network_input(pictures: Pixels, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Turn uint8 pictures (n, height, width, 3), already shrunk, into the float32 batch that the manifest describes."""
    batch: npt.NDArray[np.float32] = pictures.astype(np.float32) * np.float32(spec.scale)
    if spec.mean != (0.0, 0.0, 0.0) or spec.std != (1.0, 1.0, 1.0):
        mean: npt.NDArray[np.float32] = np.asarray(spec.mean, np.float32)
        std: npt.NDArray[np.float32] = np.asarray(spec.std, np.float32)
        batch = (batch - mean) / std
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if spec.layout == "NCHW" else batch
