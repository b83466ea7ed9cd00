"""Prepare a picture for the oracle: decode it safely, orient it, make it 300x300 RGB, encode JPEG exactly once.

Nobody re-encodes afterwards: what is stored is what is asked, and its SHA-256 is its name.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

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
_CV_FILTERS = {"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}


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
    if is_query_image(data):
        decode_query(data, where)
        return QueryImage.of(data)
    return QueryImage.of(encode_query(resize(decode_picture(data, where), (SIDE, SIDE))))


def is_query_image(data: bytes) -> bool:
    """True for bytes whose header says upright 300x300 RGB JPEG of at most 1 MiB."""
    if len(data) > MAX_QUERY_BYTES or not data.startswith(b"\xff\xd8"):
        return False
    try:
        with _open(data, ("JPEG",)) as image:
            upright = image.getexif().get(0x0112, 1) == 1
            return image.format == "JPEG" and image.mode == "RGB" and image.size == (SIDE, SIDE) and upright
    except Exception:  # as in `decode_picture`
        return False


def decode_query(jpeg: bytes, where: str = "image") -> Pixels:
    """Decode a ready query image to uint8, shape (300, 300, 3), RGB. Raises `RefusedImage` (65) for anything else."""
    if not is_query_image(jpeg):
        raise RefusedImage(path=where, reason=f"not a {SIDE}x{SIDE} RGB JPEG", hint="let pi-agent prepare it")
    return decode_picture(jpeg, where)


def decode_picture(data: bytes, where: str = "image") -> Pixels:
    """Decode any accepted picture to uint8, shape (height, width, 3), RGB, upright. Raises `RefusedImage` (65)."""
    try:
        with _open(data, FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise RefusedImage(path=where, reason=f"{image.width}x{image.height} pixels are too many")
            # A phone's MPO holds depth maps or previews beside the picture; the first frame is the picture.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise RefusedImage(path=where, reason="it is animated or has several pages")
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
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


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=formats)


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
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def shrink_to(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Resize one uint8 RGB picture to the network's (height, width) with the manifest's filter; still uint8, HWC.

    This is the victim's filter: a substitute that shrinks differently starts with a silent error (see the notes on
    extraction). `bilinear` is Pillow's antialiased one.
    """
    height, width = spec.size
    if pixels.shape[:2] == (height, width):
        return pixels
    if spec.resize == "bilinear":
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=_CV_FILTERS[spec.resize]), dtype=np.uint8)


def network_input(pictures: Pixels, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Turn uint8 pictures (n, height, width, 3), already shrunk, into the float32 batch that the manifest describes."""
    batch: npt.NDArray[np.float32] = pictures.astype(np.float32) * np.float32(spec.scale)
    if spec.mean != (0.0, 0.0, 0.0) or spec.std != (1.0, 1.0, 1.0):
        mean: npt.NDArray[np.float32] = np.asarray(spec.mean, np.float32)
        std: npt.NDArray[np.float32] = np.asarray(spec.std, np.float32)
        batch = (batch - mean) / std
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if spec.layout == "NCHW" else batch
