"""From the bytes of one image file to a square of uint8 pixels; knows no files, labels or Ray.

Legend: S = image_size, C = channels (1 grey, 3 RGB).
"""

import functools
import io
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from raylab.config.trial import Filter

Pixels = npt.NDArray[np.uint8]
FILTERS: dict[Filter, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}

# PIL would also try EPS (which starts Ghostscript) and a dozen others that no camera writes.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF")
CODECS = ("jpg", "zlib", "webp", "avif", "libtiff")
"""What PIL calls the libraries that these need, and may be compiled without."""
MAX_PIXELS = 80_000_000
"""More is refused as a decompression bomb: 240 MB of RGB; the largest cameras make 60 Mpx."""
BACKGROUND = (255, 255, 255)
"""Transparent images are laid over white, the usual page behind a cut-out face."""
UNREAD = {
    b"ftyphei": "HEIC, which is not read here; convert it to JPEG",
    b"version https://git-lfs": "a pointer to an image; fetch it with git lfs pull",
}
"""By what stands in their first bytes, files that are often taken for images, and what to do."""
DRAFT_GAP = 2
"""A JPEG is decoded at 1/2, 1/4 or 1/8 as long as that leaves twice the pixels wanted per side."""


class DecodeError(Exception):
    """The bytes are no image that can be used; the text is a short reason."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """`pixels`: uint8 (S, S, C), 0..255; `width` and `height`: px of the upright original."""

    pixels: Pixels
    width: int
    height: int


def decode(data: bytes, image_size: int, channels: int) -> Pixels:
    """uint8 (S, S, C): the upright image's central square, resized with antialiasing."""
    return decode_info(data, image_size, channels).pixels


def decode_info(
    data: bytes, image_size: int, channels: int, interpolation: Filter = "bicubic"
) -> Decoded:
    """The same with the original's size. A square image of S px comes back pixel for pixel."""
    if not data:
        raise DecodeError("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns of odd metadata; pixels or an error count
        upright, width, height = _load(data, image_size)
        try:
            flat = to_mode(upright, "L" if channels == 1 else "RGB")
        except ValueError as error:  # a colour model that PIL cannot convert
            raise DecodeError(_short(error)) from error
    square = resized_square(flat, image_size, interpolation)
    pixels = np.asarray(square, dtype=np.uint8).reshape(image_size, image_size, channels)
    return Decoded(pixels, width, height)


@dataclass(frozen=True, slots=True)
class Whole:
    """An image at full size: upright, 8 bits per channel; `mode`: PIL's name of what it was."""

    image: Image.Image
    """RGB."""
    mode: str

    def square(self, side: int) -> Pixels:
        """uint8 (side, side): its central square in grey."""
        return np.asarray(resized_square(self.image.convert("L"), side), dtype=np.uint8)


def decode_whole(data: bytes, side: int = MAX_PIXELS) -> Whole:
    """The image as it is, nothing cut; a JPEG maybe reduced, to no less than DRAFT_GAP times
    `side`. DecodeError says why there is none.
    """
    if not data:
        raise DecodeError("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        upright, _, _ = _load(data, side)
        try:
            return Whole(to_mode(upright, "RGB"), upright.mode)
        except ValueError as error:
            raise DecodeError(_short(error)) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """FORMATS, less what this build of PIL was compiled without."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def missing_codecs() -> list[str]:
    """Those of CODECS that this build of PIL lacks: it takes their images for damaged ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an older PIL warns of names that it does not know
        return [name for name in CODECS if not features.check(name)]


def _load(data: bytes, image_size: int) -> tuple[Image.Image, int, int]:
    """(the upright image, a JPEG maybe at a fraction of its size; the original's width, height)."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise DecodeError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
            if opened.format in ("JPEG", "MPO"):  # a camera's JPEG may hold a second picture
                opened.draft(None, (DRAFT_GAP * image_size, DRAFT_GAP * image_size))
            opened.load()
            upright, turned = _upright(opened)
    except (DecodeError, MemoryError):  # the latter says nothing of the image
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(_unread(data)) from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # PIL's parsers raise anything at all on damaged files
        raise DecodeError(f"damaged: {_short(error)}") from error
    return (upright, height, width) if turned else (upright, width, height)


def _unread(data: bytes) -> str:
    """Why PIL opens it as no image."""
    known = (text for mark, text in UNREAD.items() if mark in data[:32])
    return next(known, "not an image, or of an unknown format")


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """Turned as its EXIF orientation says, and whether that swapped the sides."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(image), orientation in (5, 6, 7, 8)
    except MemoryError:
        raise
    except Exception:  # torn metadata raises anything; the pixels are still good
        return image, False


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """8-bit grey or RGB from whatever PIL opened: 16-bit, palette, alpha, CMYK, 1-bit."""
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.mode == "La":  # PIL takes it to LA and to nothing else
        image = image.convert("LA")
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(page, image)
    if image.mode in ("LAB", "HSV", "YCbCr", "CMYK", "P") and mode == "L":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Fixed scales, not stretched per image: 16 bits / 257; floats in 0..1 times 255."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        scaled = values * 255 if np.nanmax(values) <= 1 else values
    elif image.mode == "I" and values.max() <= 255:
        scaled = values
    else:
        scaled = values / 257
    finite = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return Image.fromarray(np.clip(np.rint(finite), 0, 255).astype(np.uint8))


def resized_square(
    image: Image.Image, image_size: int, interpolation: Filter = "bicubic"
) -> Image.Image:
    """The central square at S px; the filter's support grows with the reduction (antialiased)."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    if image.size == (image_size, image_size):
        return image
    size = (image_size, image_size)
    return image.resize(size, FILTERS[interpolation], box=box, reducing_gap=3.0)


def _short(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text[:80]
