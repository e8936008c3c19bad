"""Procedurally drawn faces in seven emotions: the built-in source `toy`, learnable, not trivial.

`toy` or `toy:num=700,wrong=0.05,seed=1` names a set; the same name is always the same set. Face
shape, pose, light, colour and noise vary; how strongly a face shows its emotion varies too, so that
a weak smile and a neutral face overlap, as they do in life.
"""

import functools
import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from raylab.errors import Problem, Refused
from raylab.images.found import Found

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

SHARES = {
    "angry": 0.13,
    "disgust": 0.06,
    "fear": 0.13,
    "happy": 0.24,
    "neutral": 0.17,
    "sad": 0.16,
    "surprise": 0.11,
}
"""Class imbalance, as in sets of real faces: happy is common, disgust rare."""
EMOTIONS = tuple(SHARES)
MIN_TOY_IMAGES = 100  # below, disgust has too few images to train, validate and test on
MAX_TOY_IMAGES = 100_000
OVERSAMPLING = 2  # drawn at twice the side, then averaged: smooth edges


@dataclass(frozen=True, slots=True)
class Expression:
    """What muscles do, each 0 at rest; lengths in half face widths."""

    brow_lift: float = 0.0
    brow_slant: float = 0.0
    """> 0: inner ends up (sad, fear); < 0: inner ends down (angry)."""
    eye_open: float = 0.0
    mouth_curve: float = 0.0
    """> 0: corners up."""
    mouth_open: float = 0.0
    mouth_width: float = 0.0
    nose_wrinkle: float = 0.0
    lip_skew: float = 0.0
    """One side of the upper lip raised."""


EXPRESSIONS = {
    "angry": Expression(-0.10, -0.16, -0.05, -0.10, 0.03, 0.02, 0.2),
    "disgust": Expression(-0.06, -0.05, -0.09, -0.11, 0.07, 0.0, 1.0, 0.13),
    "fear": Expression(0.09, 0.13, 0.09, -0.07, 0.10, 0.10),
    "happy": Expression(0.02, 0.0, -0.04, 0.20, 0.08, 0.12),
    "neutral": Expression(),
    "sad": Expression(0.01, 0.15, -0.06, -0.15, 0.0, -0.06),
    "surprise": Expression(0.15, 0.0, 0.12, 0.0, 0.26, -0.12),
}


@dataclass(frozen=True)
class ToySet:
    """`images`: uint8 (N, 64, 64, 3); `labels` as given, `true_labels` as drawn: (N,) strings."""

    images: Pixels
    labels: tuple[str, ...]
    true_labels: tuple[str, ...]


@dataclass(frozen=True)
class ToyOptions:
    """What stands after `toy:`."""

    num: int = 1400
    wrong: float = 0.0
    """Fraction of the labels that are wrong."""
    seed: int = 0


def is_toy(data: str) -> bool:
    """True for `toy` and `toy:…`."""
    return data == "toy" or data.startswith("toy:")


def read_options(data: str) -> ToyOptions:
    """The options in `toy:num=700,wrong=0.05,seed=1`; Refused with all that is wrong in them."""
    given: dict[str, float] = {}
    problems: list[str] = []
    allowed = [field.name for field in fields(ToyOptions)]
    for part in filter(None, data.removeprefix("toy").removeprefix(":").split(",")):
        key, _, text = (piece.strip() for piece in part.partition("="))
        try:
            if key not in allowed:
                raise ValueError(f"{key!r} is no option; allowed: {', '.join(allowed)}")
            given[key] = float(text) if key == "wrong" else int(text)
        except ValueError as error:
            ours = "is no option" in str(error)
            problems.append(str(error) if ours else f"{key}: {text!r} is not a number")
    if not MIN_TOY_IMAGES <= given.get("num", MIN_TOY_IMAGES) <= MAX_TOY_IMAGES:
        problems.append(f"num: {given['num']} is not in {MIN_TOY_IMAGES}..{MAX_TOY_IMAGES}")
    if not 0 <= given.get("wrong", 0) <= 1:
        problems.append(f"wrong: {given['wrong']:g} is not in 0..1")
    if given.get("seed", 0) < 0:
        problems.append(f"seed: {given['seed']} is not >= 0")
    if problems:
        raise Refused([Problem(data, problem) for problem in problems], data)
    return ToyOptions(
        int(given.get("num", 1400)), float(given.get("wrong", 0.0)), int(given.get("seed", 0))
    )


@functools.lru_cache(maxsize=4)
def toy_images(num: int = 1400, wrong: float = 0.0, seed: int = 0) -> ToySet:
    """`num` faces; exactly round(wrong * num) of them carry another emotion's label.

    A face depends on its emotion, its number in the class and `seed` only: a larger set contains
    the smaller one's faces.
    """
    truth = [emotion for emotion in EMOTIONS for _ in range(_counts(num)[emotion])]
    images = np.empty((num, 64, 64, 3), dtype=np.uint8)
    in_class = dict.fromkeys(EMOTIONS, 0)
    for i, emotion in enumerate(truth):
        rng = np.random.default_rng([seed, EMOTIONS.index(emotion), in_class[emotion]])
        images[i] = draw_face(emotion, rng)
        in_class[emotion] += 1
    images.flags.writeable = False  # the cache hands out the same array again
    labels = list(truth)
    rng = np.random.default_rng([seed, len(EMOTIONS)])
    for i in rng.permutation(num)[: round(wrong * num)]:
        others = [emotion for emotion in EMOTIONS if emotion != truth[i]]
        labels[i] = others[rng.integers(len(others))]
    return ToySet(images, tuple(labels), tuple(truth))


def find_toy(data: str) -> list[Found]:
    """The set that `data` names, as inline PPM files."""
    options = read_options(data)
    toy = toy_images(options.num, options.wrong, options.seed)
    return [
        Found(path=f"{label}/{i:06d}.ppm", label=label, content=b"P6 64 64 255\n" + image.tobytes())
        for i, (label, image) in enumerate(zip(toy.labels, toy.images, strict=True))
    ]


def write_folder(directory: Path, num: int = 1400, wrong: float = 0.0, seed: int = 0) -> int:
    """Writes the set as a folder of PNGs per class; returns how many."""
    toy = toy_images(num, wrong, seed)
    for i, (label, image) in enumerate(zip(toy.labels, toy.images, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        target = Path(directory) / label / f"{i:06d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(buffer.getvalue())
    return num


def _counts(num: int) -> dict[str, int]:
    """Images per class: the shares of `num`, the largest remainders rounded up."""
    counts = {emotion: int(share * num) for emotion, share in SHARES.items()}
    by_remainder = sorted(EMOTIONS, key=lambda e: counts[e] - SHARES[e] * num)
    for emotion in by_remainder[: num - sum(counts.values())]:
        counts[emotion] += 1
    return counts


def draw_face(emotion: str, rng: np.random.Generator, size: int = 64) -> Pixels:
    """uint8 (size, size, 3): one face that shows `emotion` with a random strength."""
    shown = _expression(emotion, rng)
    canvas = _Canvas(rng, size * OVERSAMPLING)
    canvas.head()
    canvas.eyes(shown)
    canvas.brows(shown)
    canvas.nose(shown)
    canvas.mouth(shown)
    small = np.asarray(canvas.image.reduce(OVERSAMPLING), dtype=np.float32)
    return _lit(small, rng)


def _expression(emotion: str, rng: np.random.Generator) -> Expression:
    """The emotion's expression at a strength of 0.4 to 1.2, plus what each face does by itself."""
    strength = rng.uniform(0.4, 1.2)
    full = EXPRESSIONS[emotion]
    own = rng.normal(0, 0.022, 8) * (1, 1, 1, 1, 0.6, 1, 3, 0.8)
    names = [field.name for field in fields(Expression)]
    values = {n: strength * getattr(full, n) + o for n, o in zip(names, own, strict=True)}
    return Expression(**values)


def _lit(face: npt.NDArray[np.float32], rng: np.random.Generator) -> Pixels:
    """Light from one side, exposure, and the sensor's noise."""
    size = face.shape[0]
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7)
    light = 1 + depth * (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])
    noise = rng.standard_normal(face.shape, dtype=np.float32) * rng.uniform(3, 14)
    lit = face * (light * rng.uniform(0.65, 1.15))[:, :, None] + noise
    pixels: Pixels = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return pixels


class _Canvas:
    """One face's geometry and colours, and the image that its parts are drawn into.

    Face coordinates: the origin between eyes and mouth, x to the right, y down, 1 = half the
    face's width.
    """

    def __init__(self, rng: np.random.Generator, side: int) -> None:
        self.scale = side * rng.uniform(0.33, 0.42)
        self.centre = side / 2 + rng.uniform(-0.07, 0.07, 2) * side
        tilt = rng.normal(0, 0.12)
        self.rotation = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        self.look = rng.uniform(-0.12, 0.12)  # turning the head moves the parts sideways
        self.tall = rng.uniform(1.15, 1.4)
        self.eye_apart = rng.uniform(0.36, 0.46)
        self.eye_y = rng.uniform(-0.3, -0.2)
        self.eye_size = rng.uniform(0.11, 0.15)
        self.brow_width = rng.uniform(0.05, 0.1)
        self.mouth_y = rng.uniform(0.48, 0.6)
        self.mouth_half = rng.uniform(0.28, 0.36)
        self.has_hair = rng.uniform() < 0.85
        tone = rng.uniform(0, 1)
        self.skin = (1 - tone) * np.array([245, 213, 190]) + tone * np.array([92, 58, 40])
        self.hair = np.array([60, 42, 30]) * rng.uniform(0.3, 2.6) + rng.uniform(0, 20, 3)
        self.iris = rng.uniform(20, 110, 3)
        background = _colour(rng.uniform(20, 235, 3))
        self.image = Image.new("RGB", (side, side), background)
        self.draw = ImageDraw.Draw(self.image)

    def head(self) -> None:
        """Hair behind, the face's ellipse, hair line on top."""
        if self.has_hair:
            self._fill(_ellipse(0, -0.25, 1.1, self.tall * 0.95), self.hair)
        self._fill(_ellipse(0, 0.05, 1.0, self.tall), self.skin)

    def eyes(self, shown: Expression) -> None:
        """White, iris and pupil; half closed to wide open."""
        high = max(0.035, self.eye_size + shown.eye_open)
        for side in (-1, 1):
            x = side * self.eye_apart + self.look
            self._fill(_ellipse(x, self.eye_y, self.eye_size * 1.5, high), (240, 240, 240))
            iris = min(self.eye_size * 0.75, high)
            self._fill(_ellipse(x + self.look / 3, self.eye_y, iris * 0.9, iris), self.iris)

    def brows(self, shown: Expression) -> None:
        """A bar over each eye, lifted and slanted."""
        middle = self.eye_y - self.eye_size - 0.13 - shown.brow_lift
        for side in (-1, 1):
            inner = (side * (self.eye_apart - 0.2) + self.look, middle - shown.brow_slant / 2)
            outer = (side * (self.eye_apart + 0.24) + self.look, middle + shown.brow_slant / 2)
            bend = ((inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2 - 0.04)
            self._stroke(np.array([inner, bend, outer]), self.hair * 0.8, self.brow_width)

    def nose(self, shown: Expression) -> None:
        """A shadow line, and the wrinkles beside it."""
        x = 1.4 * self.look
        shadow = self.skin * 0.72
        line = np.array([(x, -0.12), (x + 0.09, 0.2), (x - 0.05, 0.22)])
        self._stroke(line, shadow, 0.035)
        if shown.nose_wrinkle > 0.25:
            for side in (-1, 1):
                fold = np.array([(x + side * 0.1, 0.02), (x + side * 0.24, 0.3)])
                self._stroke(fold, self.skin * (1 - 0.4 * min(1, shown.nose_wrinkle)), 0.04)

    def mouth(self, shown: Expression) -> None:
        """Two lips between the corners, curved, and what is open between them."""
        half = self.mouth_half + shown.mouth_width
        t = np.linspace(-1, 1, 11)
        x = t * half + 1.2 * self.look
        base = self.mouth_y - shown.mouth_curve * (t**2 - 0.4) - shown.lip_skew * np.maximum(t, 0)
        gap = max(0.0, shown.mouth_open) * np.sqrt(1 - t**2)
        upper, lower = base - gap, base + gap
        lips = self.skin * (0.75, 0.5, 0.5)
        if shown.mouth_open > 0.02:
            inside = np.concatenate([np.c_[x, upper], np.c_[x, lower][::-1]])
            self._fill(inside, (60, 20, 25))
        self._stroke(np.c_[x, upper], lips, 0.06)
        self._stroke(np.c_[x, lower], lips, 0.06)

    def _fill(self, points: Points, colour: object) -> None:
        self.draw.polygon(self._placed(points), fill=_colour(colour))

    def _stroke(self, points: Points, colour: object, width: float) -> None:
        px = max(1, round(width * self.scale))
        self.draw.line(self._placed(points), fill=_colour(colour), width=px, joint="curve")

    def _placed(self, points: Points) -> list[tuple[float, float]]:
        placed = points @ self.rotation * self.scale + self.centre
        return [(x, y) for x, y in placed.tolist()]


def _ellipse(x: float, y: float, half_width: float, half_height: float) -> Points:
    """(24, 2) corners."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    corners = [x + half_width * np.cos(angles), y + half_height * np.sin(angles)]
    return np.stack(corners, axis=1)


def _colour(rgb: object) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.asarray(rgb, dtype=np.float64), 0, 255).astype(int).tolist()
    return red, green, blue
