"""From a kept model and image files to probabilities, the images treated as in its validation.

N = images that could be read, K = classes, S = image_size, C = channels.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from raylab.errors import CannotFinish, Problem, Refused
from raylab.images.crop import Seen, look
from raylab.images.decode import DecodeError
from raylab.images.faces import MISSING, is_installed
from raylab.images.folders import images_below, is_image_name
from raylab.images.found import is_uri, read_content
from raylab.images.variant import Format
from raylab.training.checkpoint import KeptModel
from raylab.training.evaluate import IMAGES_PER_BATCH, predict_log_probs
from raylab.training.memory import is_out_of_memory
from raylab.training.pixels import Pixels, as_tensor

UNPREDICTED = "the images", "nothing was predicted"
"""What was refused, and what that means."""
UNREADABLE = (DecodeError, Refused, OSError, ValueError)
"""What one image raises that is none: the others are still seen. ValueError: a NUL in its path."""
MAX_TOLD = 20
NUM_DECODE_THREADS = 8  # they wait for disks, and PIL decodes without Python's lock

Name = TypeVar("Name")
"""Of an image: its file, or its place in a list."""


@dataclass(frozen=True)
class Predictions(Generic[Name]):
    """What a model says of images, in the order in which they were named."""

    images: tuple[Name, ...]
    """Those that could be read."""
    classes: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    """(N, K)."""
    unreadable: tuple[tuple[Name, str], ...]
    """(image, reason)."""
    faceless: tuple[Name, ...] = ()
    """Those of `images` in which the model's face is missing: it saw the whole image."""

    def labels(self) -> list[str]:
        """The most probable class of each image."""
        return [self.classes[k] for k in self.probs.argmax(1)]


def predict_files(
    kept: KeptModel,
    images: Sequence[str],
    device: torch.device,
    progress: Callable[[int], None] = lambda num_done: None,
) -> Predictions[str]:
    """images: files, or folders whose images at any depth are meant; local or URIs.

    Raises Refused where not one image can be read, or no face can be looked for; CannotFinish where
    the device has no room.
    """
    return predict_seen(kept, seen_files(images, kept), device, progress)


def predict_seen(
    kept: KeptModel,
    images: Iterator[tuple[Name, Seen | str]],
    device: torch.device,
    progress: Callable[[int], None] = lambda num_done: None,
) -> Predictions[Name]:
    """images: each with what the model sees of it, or why that is nothing; asked for a batch at a
    time. Raises what `predict_files` does.
    """
    check_detector(kept)
    named: list[Name] = []
    faceless: list[Name] = []
    unreadable: list[tuple[Name, str]] = []
    probs = [np.empty((0, len(kept.classes)), dtype=np.float32)]
    network = network_on(device, kept)
    while batch := list(islice(images, IMAGES_PER_BATCH)):
        pixels = []
        for name, seen in batch:
            if isinstance(seen, str):
                unreadable.append((name, seen))
                continue
            named.append(name)
            pixels.append(seen.pixels)
            faceless += [name] if seen.face == "none" else []
        if pixels:
            probs.append(predict_pixels(kept, network, np.stack(pixels), device))
        progress(len(named) + len(unreadable))
    if not named:
        problems = [Problem(place_of(name), reason) for name, reason in unreadable[:MAX_TOLD]]
        raise Refused(problems or [Problem("predict", "no image was given")], *UNPREDICTED)
    told = tuple(unreadable), tuple(faceless)
    return Predictions(tuple(named), kept.classes, np.concatenate(probs), *told)


def place_of(name: object) -> str:
    """Where a user finds the image."""
    return f"image {name}" if isinstance(name, int) else str(name)


def network_on(device: torch.device, kept: KeptModel) -> torch.nn.Module:
    """CannotFinish where others have filled the device."""
    try:
        return kept.network.to(device).to(memory_format=torch.channels_last)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        remedy = "wait for what fills it, or set CUDA_VISIBLE_DEVICES= to predict on the CPU"
        raise CannotFinish(f"{device} has no room for the model; {remedy}") from error


def predict_pixels(
    kept: KeptModel,
    network: torch.nn.Module,
    squares: npt.NDArray[np.uint8],
    device: torch.device,
    rows: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float32]:
    """float32 (N, K), 0..1; squares: uint8 (N, S, S, C), 0..255; rows: int64 (M,), those of
    `squares` that are meant, in place of N, which may be more than memory holds.
    """
    rows = np.arange(len(squares)) if rows is None else rows
    normalization = kept.mean, kept.std
    pixels = Pixels(as_tensor(squares), kept.config, device, normalization=normalization)
    log_probs = predict_log_probs(
        network, pixels, rows, len(kept.classes), tta=kept.config.tta, amp=kept.amp
    )
    return np.exp(log_probs)


def check_detector(kept: KeptModel) -> None:
    """Refused where the model saw faces and none can be found here."""
    if kept.config.crop == "face" and not is_installed():
        raise Refused([Problem("crop", MISSING)], "the request", "nothing was predicted")


def seen_files(images: Sequence[str], kept: KeptModel) -> Iterator[tuple[str, Seen | str]]:
    """Every file that is named, alone or by its folder, decoded a batch at a time."""
    found = find_images(images)
    with ThreadPoolExecutor(NUM_DECODE_THREADS) as threads:
        while batch := list(islice(found, IMAGES_PER_BATCH)):
            seen = threads.map(lambda at: at[1] or decode_file(at[0], kept), batch)
            yield from zip((file for file, _ in batch), seen, strict=True)


def decode_file(file: str, kept: KeptModel) -> Seen | str:
    """What the model sees of the file, or why that is nothing."""
    try:
        return look(read_content(file), Format.of(kept.config))
    except UNREADABLE as error:
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """Of what UNREADABLE lists, in one line."""
    if isinstance(error, Refused):  # a URI of no storage that is known here
        return error.problems[0].text
    if isinstance(error, DecodeError):
        return str(error)
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def find_images(images: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """(file, None), or (folder, why none of its images is looked at).

    A URI that ends in an image's suffix is a file.
    """
    for place in images:
        if not is_folder(place):
            yield place, None
            continue
        try:
            below = images_below(place)
        except UNREADABLE as error:
            yield place, reason_of(error)
            continue
        yield from ((file, None) for file in below)
        if not below:
            yield place, "no images in it"


def is_folder(place: str) -> bool:
    """A local directory; of a URI, one that does not end in an image's suffix."""
    if is_uri(place):
        return not is_image_name(place.partition("?")[0])
    return os.path.isdir(place)
