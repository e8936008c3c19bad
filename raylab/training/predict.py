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
from raylab.images.decode import DecodeError, decode
from raylab.images.folders import images_below
from raylab.images.found import is_uri, read_content
from raylab.training.checkpoint import KeptModel
from raylab.training.evaluate import IMAGES_PER_BATCH, predict_log_probs
from raylab.training.pixels import Pixels

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

    Raises Refused where not one image can be read.
    """
    files: list[str] = []
    unreadable: list[tuple[str, str]] = []
    probs = [np.empty((0, len(kept.classes)), dtype=np.float32)]
    network = kept.network.to(device).to(memory_format=torch.channels_last)
    found = find_images(images, unreadable)
    with ThreadPoolExecutor(NUM_DECODE_THREADS) as threads:
        while batch := list(islice(found, IMAGES_PER_BATCH)):
            decoded = threads.map(lambda file: decode_file(file, kept), batch)
            pixels = []
            for file, square in zip(batch, decoded, strict=True):
                if isinstance(square, str):
                    unreadable.append((file, square))
                else:
                    files.append(file)
                    pixels.append(square)
            if pixels:
                probs.append(predict_pixels(kept, network, np.stack(pixels), device))
            progress(len(files) + len(unreadable))
    if not files:
        problems = [Problem(file, reason) for file, reason in unreadable[:MAX_TOLD]]
        raise Refused(problems, "the images", "nothing was predicted")
    return Predictions(tuple(files), kept.classes, np.concatenate(probs), tuple(unreadable))


def predict_pixels(
    kept: KeptModel, network: torch.nn.Module, squares: npt.NDArray[np.uint8], device: torch.device
) -> npt.NDArray[np.float32]:
    """float32 (N, K), 0..1; squares: uint8 (N, S, S, C), 0..255."""
    normalization = kept.mean, kept.std
    pixels = Pixels(torch.from_numpy(squares), kept.config, device, normalization=normalization)
    log_probs = predict_log_probs(
        network,
        pixels,
        np.arange(len(squares)),
        len(kept.classes),
        tta=kept.config.tta,
        amp=kept.amp,
    )
    return np.exp(log_probs)


def decode_file(file: str, kept: KeptModel) -> npt.NDArray[np.uint8] | str:
    """uint8 (S, S, C), or why there is none."""
    try:
        content = read_content(file)
        return decode(content, kept.config.image_size, kept.config.channels)
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
    """A local directory; of a URI, one without the ending of a file."""
    if is_uri(place):
        return not os.path.splitext(place.partition("?")[0])[1]
    return os.path.isdir(place)
