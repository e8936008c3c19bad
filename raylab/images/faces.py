"""From an image to the largest face in it, found by MTCNN (Zhang et al. 2016).

The detector is that of facenet-pytorch, whose wheel holds the weights. It works with torch, which
is loaded where the first face is looked for and nowhere else.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import atan2, degrees
from threading import Lock
from typing import Any

from PIL import Image

PACKAGE = "facenet_pytorch"
MISSING = "face needs a detector that is not installed here; pip install 'raylab[faces]'"

DETECT_PX = 640
"""The longer side, at most, in which faces are looked for: the time grows with its square."""
MIN_DETECT_PX = 160
"""Smaller images are enlarged: of 42 faces of FER2013, 48 px, it then finds 88 %, else 79 %."""
MIN_FACE_PX = 40
"""The least face there: a sixteenth of a photo's longer side is a passer-by."""
MIN_PROB = 0.95
"""Of 100 faces of 25 px (LFW's subset in scikit-image) 98 reach it, and 87 reach 0.99; of the 100
pictures of no face there, none does."""
MAX_TILT_DEG = 45
"""Who seems to lie further on the side is more likely a mistaken pair of eyes, and not turned."""


_BUILDING = Lock()


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face is, in whole px of the image: the last bits of a detector's answer depend on
    the machine, and the pixels that are cut out must not.
    """

    left: int
    top: int
    width: int
    height: int
    tilt_deg: int = 0
    """By how much the right eye of the picture is lower than the left one."""


def is_installed() -> bool:
    """Whether faces can be looked for."""
    return find_spec(PACKAGE) is not None


def find_face(image: Image.Image) -> Face | None:
    """The largest face in an RGB image. ModuleNotFoundError without the detector."""
    longer, shorter = max(image.size), min(image.size)
    scale = min(DETECT_PX / longer, max(1.0, MIN_DETECT_PX / shorter))
    if scale * shorter < MIN_FACE_PX:
        return None
    size = round(image.width * scale), round(image.height * scale)
    small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    try:
        boxes, probs, points = detector().detect(small, landmarks=True)
    except (RuntimeError, IndexError):  # its stages stumble over candidates outside of the image
        return None
    if boxes is None:
        return None
    found = [
        _face(box, eyes, scale)
        for box, prob, eyes in zip(boxes, probs, points, strict=True)
        if prob >= MIN_PROB
    ]
    return max(found, key=lambda face: face.width * face.height, default=None)


def detector() -> Any:
    """facenet_pytorch.MTCNN on the CPU, once in a process, whatever the number of its threads."""
    with _BUILDING:
        return _detector()


@cache
def _detector() -> Any:
    return import_module(PACKAGE).MTCNN(keep_all=True, min_face_size=MIN_FACE_PX, device="cpu")


def _face(box: Any, points: Any, scale: float) -> Face:
    """box: left, top, right, bottom; points: float (5, 2), the picture's left eye first."""
    left, top, right, bottom = (round(float(edge) / scale) for edge in box)
    across, down = (points[1] - points[0]).tolist()
    tilt_deg = round(degrees(atan2(down, across)))
    level = tilt_deg if abs(tilt_deg) <= MAX_TILT_DEG else 0
    return Face(left, top, max(1, right - left), max(1, bottom - top), level)
