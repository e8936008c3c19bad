"""From a kept model and image files to probabilities, the images treated as in its validation.

N = images that could be read, K = classes, S = image_size, C = channels.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from raylab.errors import Problem, Refused
from raylab.images.crop import Seen, look
from raylab.images.decode import DecodeError
from raylab.images.faces import MISSING, is_installed
from raylab.images.folders import images_below, is_image_name
from raylab.images.found import is_uri, read_content
from raylab.images.variant import Format
from raylab.training.checkpoint import KeptModel
from raylab.training.evaluate import IMAGES_PER_BATCH, predict_log_probs
from raylab.training.pixels import Pixels, as_tensor

MAX_TOLD = 20
NUM_DECODE_THREADS = 8  # they wait for disks, and PIL decodes without Python's lock


@dataclass(frozen=True)
class Predictions:
    """What a model says of images, in the order in which they were named."""

    files: tuple[str, ...]
    """Those that could be read."""
    classes: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    """(N, K)."""
    unreadable: tuple[tuple[str, str], ...]
    """(file, reason)."""
    faceless: tuple[str, ...] = ()
    """Those of `files` in which the model's face is missing: it saw the whole image."""

    def labels(self) -> list[str]:
        """The most probable class of each file."""
        return [self.classes[k] for k in self.probs.argmax(1)]


def predict_files(
    kept: KeptModel,
    images: Sequence[str],
    device: torch.device,
    progress: Callable[[int], None] = lambda num_done: None,
) -> Predictions:
    """images: files, or folders whose images at any depth are meant; local or URIs.

    Raises Refused where not one image can be read, or no face can be looked for.
    """
    check_detector(kept)
    files: list[str] = []
    faceless: list[str] = []
    unreadable: list[tuple[str, str]] = []
    probs = [np.empty((0, len(kept.classes)), dtype=np.float32)]
    network = kept.network.to(device).to(memory_format=torch.channels_last)
    found = find_images(images, unreadable)
    with ThreadPoolExecutor(NUM_DECODE_THREADS) as threads:
        while batch := list(islice(found, IMAGES_PER_BATCH)):
            decoded = threads.map(lambda file: decode_file(file, kept), batch)
            pixels = []
            for file, seen in zip(batch, decoded, strict=True):
                if isinstance(seen, str):
                    unreadable.append((file, seen))
                    continue
                files.append(file)
                pixels.append(seen.pixels)
                faceless += [file] if seen.face == "none" else []
            if pixels:
                probs.append(predict_pixels(kept, network, np.stack(pixels), device))
            progress(len(files) + len(unreadable))
    if not files:
        problems = [Problem(file, reason) for file, reason in unreadable[:MAX_TOLD]]
        raise Refused(problems, "the images", "nothing was predicted")
    told = tuple(unreadable), tuple(faceless)
    return Predictions(tuple(files), kept.classes, np.concatenate(probs), *told)


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


def decode_file(file: str, kept: KeptModel) -> Seen | str:
    """What the model sees of the file, or why that is nothing."""
    try:
        return look(read_content(file), Format.of(kept.config))
    except DecodeError as error:
        return str(error)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def find_images(images: Sequence[str], missing: list[tuple[str, str]]) -> Iterator[str]:
    """Every file that is named, alone or by its folder; a folder without images goes to `missing`.

    A URI that ends in an image's suffix is a file.
    """
    for place in images:
        if not is_folder(place):
            yield place
            continue
        below = images_below(place)
        if not below:
            missing.append((place, "no images in it"))
        yield from below


def is_folder(place: str) -> bool:
    """A local directory; of a URI, one that does not end in an image's suffix."""
    if is_uri(place):
        return not is_image_name(place.partition("?")[0])
    return os.path.isdir(place)
