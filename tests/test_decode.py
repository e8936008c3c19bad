import io

import numpy as np
import pytest
from PIL import Image, ImageOps, JpegImagePlugin

from raylab.images import decode as decode_module
from raylab.images.decode import DecodeError, decode, decode_info


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def solid(mode, colour, size=(40, 30)):
    return Image.new(mode, size, colour)


def test_an_image_of_the_size_asked_for_comes_back_pixel_for_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels))
    assert (decode(data, 48, 1)[:, :, 0] == pixels).all()
    assert (decode(data, 48, 3) == pixels[:, :, None]).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_decodes_to_a_square(format, channels):
    decoded = decode_info(encoded(solid("RGB", (200, 200, 200)), format), 16, channels)
    assert (decoded.pixels.shape, decoded.pixels.dtype) == ((16, 16, channels), np.uint8)
    assert (decoded.width, decoded.height) == (40, 30)
    assert np.abs(decoded.pixels.astype(int) - 200).max() <= 3


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (solid("L", 100), "PNG", (100, 100, 100)),
        (solid("1", 1), "PNG", (255, 255, 255)),
        (solid("P", 0).convert("P"), "PNG", (0, 0, 0)),
        (solid("LA", (100, 255)), "PNG", (100, 100, 100)),
        (solid("RGBA", (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (solid("RGBA", (255, 0, 0, 0)), "PNG", (255, 255, 255)),  # transparent: white shows
        (solid("RGBA", (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (solid("CMYK", (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
        (solid("CMYK", (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.fromarray(np.full((30, 40), 25700, np.uint16)), "PNG", (100, 100, 100)),
        (Image.fromarray(np.full((30, 40), 25700, np.uint16)), "TIFF", (100, 100, 100)),
        (Image.fromarray(np.full((30, 40), 0.4, np.float32)), "TIFF", (102, 102, 102)),
    ],
)
def test_every_colour_model_becomes_8_bit_rgb(image, format, expected):
    pixels = decode(encoded(image, format), 16, 3).astype(int)
    assert np.abs(pixels - expected).max() <= 2
    grey = decode(encoded(image, format), 16, 1).astype(float)
    assert np.abs(grey - np.dot(expected, (0.299, 0.587, 0.114))).max() <= 2


def test_a_transparent_palette_colour_shows_white():
    image = solid("P", 0)
    image.putpalette([10, 20, 30])
    assert (decode(encoded(image, "PNG", transparency=0), 16, 3) == 255).all()


def test_exif_orientation_turns_the_image_and_swaps_its_sides():
    image = Image.new("RGB", (60, 40), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 30, 40))  # left half black
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the left half comes on top
    decoded = decode_info(encoded(image, "JPEG", exif=exif, quality=95), 16, 1)
    assert (decoded.width, decoded.height) == (40, 60)
    assert decoded.pixels[:6].max() < 20
    assert decoded.pixels[-6:].min() > 235


def test_the_first_frame_of_a_gif_is_taken():
    frames = [solid("L", value) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(decode(data, 16, 1).astype(int) - 10).max() <= 1


def test_reduction_is_antialiased():
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 255
    for format in ("PNG", "JPEG"):
        pixels = decode(encoded(Image.fromarray(stripes), format), 32, 1)
        assert np.abs(pixels.astype(float) - 127).max() < 20


def test_the_filter_is_the_one_asked_for():
    noise = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    image = Image.fromarray(noise)
    for name, filter in (("bicubic", Image.BICUBIC), ("bilinear", Image.BILINEAR)):
        found = decode_info(encoded(image), 32, 1, name).pixels[:, :, 0]
        assert (found == np.asarray(image.resize((32, 32), filter, reducing_gap=3.0))).all()


def test_the_centre_of_a_wide_image_is_kept():
    image = Image.new("L", (300, 100), 0)
    image.paste(255, (100, 0, 200, 100))
    assert decode(encoded(image), 32, 1).min() > 200


def test_a_large_jpeg_is_close_to_its_full_decode():
    ramp = np.add.outer(np.arange(1600), np.arange(1600)) / 3200 * 255
    image = Image.fromarray(ramp.astype(np.uint8))
    jpeg, png = decode(encoded(image, "JPEG"), 64, 1), decode(encoded(image, "PNG"), 64, 1)
    assert np.abs(jpeg.astype(int) - png).max() <= 4


def test_a_jpeg_with_a_second_picture_is_decoded_at_a_fraction_too(monkeypatch):
    asked = []
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile, "draft", lambda image, mode, size: asked.append(size)
    )
    image = Image.effect_noise((1600, 1600), 50).convert("RGB")
    file = io.BytesIO()
    image.save(file, "MPO", save_all=True, append_images=[image.resize((400, 400))])
    assert decode(file.getvalue(), 64, 3).shape == (64, 64, 3)
    assert asked == [(128, 128)]


def test_what_is_no_image_has_a_short_reason():
    whole = encoded(Image.effect_noise((64, 64), 50))
    for data, reason in [
        (b"", "empty"),
        (b"hello", "not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which is not read here; convert it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (whole[: len(whole) // 2], "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ]:
        with pytest.raises(DecodeError, match=reason) as error:
            decode(data, 32, 3)
        assert len(str(error.value)) < 100


def test_a_lack_of_memory_is_no_damage_of_the_image(monkeypatch):
    def full(*anything, **options):
        raise MemoryError

    data = encoded(solid("L", 100))
    for module, name in ((Image, "open"), (ImageOps, "exif_transpose")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            with pytest.raises(MemoryError):
                decode(data, 16, 1)


def test_a_decompression_bomb_is_refused_before_it_unfolds(monkeypatch):
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 1000)
    with pytest.raises(DecodeError, match="40 x 30 is more than 1,000 pixels"):
        decode(encoded(solid("L", 0)), 16, 1)


def test_every_damaged_byte_gives_pixels_or_a_reason():
    rng = np.random.default_rng(0)
    noise = Image.effect_noise((24, 24), 50)
    for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        whole = encoded(noise, format)
        for _ in range(60):
            torn = bytearray(whole)
            torn[rng.integers(len(torn))] = rng.integers(256)
            try:
                assert decode(bytes(torn), 16, 3).shape == (16, 16, 3)
            except DecodeError:
                continue
