"""Mutated grid files and images: refused with exit 2 or listed by reason, never another error."""

import io
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults import Run, write_grid
from PIL import Image

from raylab.config.grid import read_grid
from raylab.errors import Refused
from raylab.images.decode import DecodeError, decode, decode_whole
from raylab.images.toy import write_folder
from raylab.results.directory import ResultsDirectory

ROOT = Path(__file__).parent.parent
GRIDS = [p.read_bytes() for p in sorted((ROOT / "grids").glob("*.yaml"))]
GRIDS += [p.read_bytes() for p in sorted((ROOT / "tests" / "bad_grids").glob("*.yaml"))]
WORDS = b": - [ ] { } # & * ! | > ' \" % @ ` ~ \t \n \r , ? null true 1e999 -1 .inf .nan 0x1F 1:30 \
!!python/object:os.system &a *a <<: seeds axes trial lr 99999999999999999999999 \xff\xfe \x00 \
\xed\xa0\x80 \xf0\x9f\x98\x80 \xc2\x85 --- ... augment: random: optuna: split: folds: name: data:"
PIECES = [*WORDS.split(b" "), b"~nobody-here/", b"../" * 40, b"long" * 80]
SLOWEST_S = 10.0


def mutated(draw: random.Random, content: bytes, pieces: list[bytes]) -> bytes:
    """Bits flipped, bytes put in, parts cut out, doubled, moved, or all that follows dropped."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        if not data:
            break
        at, width = draw.randrange(len(data)), draw.randint(1, 40)
        kind = draw.randrange(6)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at:at] = draw.choice(pieces)
        elif kind == 2:
            del data[at : at + width]
        elif kind == 3:
            data[at:at] = data[at : at + width] * draw.randint(1, 3)
        elif kind == 4:
            part = bytes(data[at : at + width])
            del data[at : at + width]
            to = draw.randrange(len(data) + 1)
            data[to:to] = part
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_mutated_grid_is_read_or_refused(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, outcomes, path = random.Random(number), Counter[str](), tmp_path / "grid.yaml"
    for _ in range(number):
        content = mutated(draw, draw.choice(GRIDS), PIECES)
        path.write_bytes(content)
        began = time.perf_counter()
        try:
            read_grid(path, data="toy")
            outcomes["read"] += 1
        except Refused as error:
            assert error.problems  # noqa: PT017
            assert str(error).endswith("no trial was started.")  # noqa: PT017
            outcomes["refused"] += 1
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{content!r}")
        assert time.perf_counter() - began < SLOWEST_S, content
    assert outcomes["read"] + outcomes["refused"] == number
    print(f"{number} mutated grids: {dict(outcomes)}")


def encoded(form: str, mode: str, side: int = 40) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form)
    return stream.getvalue()


SEEDS = [
    *(encoded(form, "RGB") for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")),
    *(encoded("PNG", mode) for mode in ("L", "P", "RGBA", "1", "I;16", "LA")),
    *(encoded("TIFF", mode) for mode in ("CMYK", "F", "I", "LAB")),
    encoded("JPEG", "CMYK"),
]
MARKERS = [b"\xff\xd8\xff", b"IHDR", b"IDAT", b"\xff\xff\xff\xff", b"\x00" * 8, b"EXIF", b"acTL"]


@pytest.mark.parametrize("number", [200, pytest.param(2_000, marks=pytest.mark.slow)])
def test_a_mutated_image_is_decoded_or_has_a_reason(number: int) -> None:
    draw, outcomes = random.Random(number), Counter[str]()
    for _ in range(number):
        content = mutated(draw, draw.choice(SEEDS), MARKERS)
        began = time.perf_counter()
        try:
            assert decode(content, 16, draw.choice([1, 3])).dtype == np.uint8
            decode_whole(content)
            outcomes["decoded"] += 1
        except DecodeError as error:
            assert str(error)  # noqa: PT017
            outcomes["left out"] += 1
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{content[:200]!r}")
        assert time.perf_counter() - began < SLOWEST_S
    print(f"{number} mutated images: {dict(outcomes)}")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 10**6, 0, 0, 54) + info


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty.png": lambda: b"",
    "zeros.jpg": lambda: b"\x00" * 4096,
    "huge header.png": lambda: png(30_000, 30_000, zlib.compress(b"")),
    "huge header.bmp": lambda: bmp(30_000, 30_000),
    "huge header.ppm": lambda: b"P6 30000 30000 255\n",
    "bomb.png": lambda: png(20_000, 20_000, zlib.compress(bytes(10**7), 9)),
    "bomb below the bound.png": lambda: png(8_000, 9_999, zlib.compress(b"\x00" * 10**6, 9)),
    "text.png": lambda: b"<svg onload=alert(1)>",
    "truncated.jpg": lambda: encoded("JPEG", "RGB", 200)[:700],
    "negative.bmp": lambda: bmp(-5, 7),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_left_out_with_its_reason_and_soon(name: str) -> None:
    content, began = HOSTILE[name](), time.perf_counter()
    with pytest.raises(DecodeError, match=r"\w"):
        decode(content, 48, 3)
    assert time.perf_counter() - began < SLOWEST_S


@pytest.mark.slow
def test_a_sweep_over_hostile_files_lists_them_and_ends(tmp_path: Path) -> None:
    write_folder(tmp_path / "faces", num=140, wrong=0.0, seed=0)
    draw = random.Random(5)
    for name, content in HOSTILE.items():
        (tmp_path / "faces" / "happy" / name).write_bytes(content())
    for number in range(60):
        path = tmp_path / "faces" / "sad" / f"mutated {number}.{draw.choice(['jpg', 'png', 'gif'])}"
        path.write_bytes(mutated(draw, draw.choice(SEEDS), MARKERS))
    grid = write_grid(tmp_path, "axes: {lr: [1.0e-3]}\n")
    run = Run(tmp_path, "sweep", grid, "--data", "faces", "--results", "r")
    assert run.wait() == 0, run.story
    assert "Traceback" not in run.story
    images = ResultsDirectory(tmp_path / "r").images().to_pandas()
    assert len(images) == 200 + len(HOSTILE)
    hostile = images[images["path"].map(lambda path: Path(path).name in HOSTILE)]
    assert len(hostile) == len(HOSTILE)
    assert (hostile["status"] != "ok").all()
    run.check_nothing_is_left()


@pytest.mark.slow
def test_mutated_grids_through_the_door_are_refused_without_a_trace(tmp_path: Path) -> None:
    draw, codes = random.Random(11), Counter[int]()
    while codes[2] < 8:
        content = mutated(draw, draw.choice(GRIDS), PIECES)
        (tmp_path / "grid.yaml").write_bytes(content)
        try:
            read_grid(tmp_path / "grid.yaml", data="toy")
            continue  # it would run
        except Refused:
            pass
        run = Run(tmp_path, "sweep", "grid.yaml", "--data", "toy", "--results", "r")
        codes[run.wait()] += 1
        assert "Traceback" not in run.story, content
        assert not (tmp_path / "r").exists()
    assert set(codes) == {2}
