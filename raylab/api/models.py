"""Results directory → a model that was kept in it, and what it says of images; no Ray.

N = images, S = image_size in px, C = channels, K = classes.
"""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch
from PIL import Image

from raylab.after.kept import find_kept, load_kept
from raylab.config.trial import TrialConfig
from raylab.errors import Problem, Refused
from raylab.images.crop import Seen, look
from raylab.images.decode import to_mode
from raylab.images.variant import Format
from raylab.results.directory import ResultsDirectory
from raylab.results.winners import ranked_families
from raylab.training.checkpoint import KeptModel
from raylab.training.predict import (
    UNPREDICTED,
    UNREADABLE,
    Predictions,
    predict_files,
    predict_seen,
    reason_of,
)

PNG_MODES = ("1", "I;16", "L", "LA", "P", "RGB", "RGBA")
"""Of PIL's, those that a PNG file keeps as they are."""
CHANNELS = (1, 2, 3, 4)
"""Of an array that is one picture: grey, RGB, each also with alpha."""
TORCH_FIRST = (1, 3, 4)
"""The same before height and width, as torch has them."""


class Model:
    """A trained model that looks at images as in its validation."""

    def __init__(self, kept: KeptModel, trial_id: str) -> None:
        self.kept, self.trial_id = kept, trial_id
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def config(self) -> TrialConfig:
        """What it was trained with."""
        return self.kept.config

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return self.kept.classes

    def __repr__(self) -> str:
        size, names = self.config.image_size, ", ".join(self.classes)
        return f"<raylab model {self.trial_id}: {self.config.model} at {size} px of {names}>"

    def predict(self, images: Any) -> pd.DataFrame:
        """A row per image: `image`, `label` (the most probable class), `p_<class>` for each.

        images: one or a list of paths, URIs and folders; or of PIL images and uint8 arrays (H, W)
        or (H, W, C) of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels; or one array
        (N, H, W, C), 0..255. What cannot be read has no row and stands in
        `frame.attrs["unreadable"]`, by its file or its place in the list; what shows no face to a
        model of faces, which then saw it whole, in `frame.attrs["faceless"]`. Raises Refused where
        none can be read, CannotFinish where the GPU is full.
        """
        given = as_list(images)
        if all(isinstance(image, str | os.PathLike) for image in given):
            files = [os.path.expanduser(image) for image in given]
            return frame_of(predict_files(self.kept, files, self.device))
        seen = seen_pictures(given, Format.of(self.config))
        return frame_of(predict_seen(self.kept, seen, self.device))


def frame_of(found: Predictions[Any]) -> pd.DataFrame:
    """A row per image, and in its attrs what no row says."""
    columns = {f"p_{name}": found.probs[:, k] for k, name in enumerate(found.classes)}
    frame = pd.DataFrame({"image": list(found.images), "label": found.labels(), **columns})
    frame.attrs = {"unreadable": dict(found.unreadable), "faceless": list(found.faceless)}
    return frame


def load_model(place: str | Path, trial: str | None = None) -> Model:
    """The model in a folder of checkpoints/, or of a results directory the trial's: an id, or
    enough of its beginning; None = the best that was kept.

    Raises Refused where there is none, or none that can be read.
    """
    if trial is None:
        trial = best_kept(ResultsDirectory(str(place)))
    found = find_kept(str(place), trial)
    return Model(load_kept(found), found.trial_id)


def best_kept(results: ResultsDirectory) -> str | None:
    """Of the trials whose weights were kept, that of the best family on the data that trained the
    newest of them; None = no results there.
    """
    kept = results.checkpoint_ids()
    records = results.records() if kept else ()
    held = [record for record in records if record.trial_id in kept]
    if not held:
        return None
    data = max(held, key=lambda record: record.started_at).data_fingerprint
    same = [record for record in records if record.data_fingerprint == data]
    for family in ranked_families(same, results.metric()):
        for record in family.records:
            if record.trial_id in kept:
                return record.trial_id
    return None


def as_list(images: Any) -> list[Any]:
    """One image or many, as a list."""
    if isinstance(images, pd.DataFrame):
        refuse(f"a table of {', '.join(map(str, images.columns))}; give the column of the files")
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim in (2, 3) and images.shape[-1] != 0:
        is_one = images.ndim == 2 or images.shape[-1] in CHANNELS or images.shape[0] in TORCH_FIRST
        return [images] if is_one else list(images)
    return list(images)


def seen_pictures(images: Sequence[Any], form: Format) -> Iterator[tuple[int, Seen | str]]:
    """By place in the list, what models of that format see of each, or why that is nothing."""
    for place, image in enumerate(images):
        picture = as_picture(image)
        try:
            yield place, look(png(picture), form)
        except UNREADABLE as error:
            yield place, reason_of(error)


def as_picture(image: Any) -> Image.Image:
    """Refused where it is no picture."""
    if isinstance(image, np.ndarray):
        is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in CHANNELS)
        if image.dtype != np.uint8 or not is_picture or not image.size:
            text = f"an array of {image.dtype} {image.shape}; give uint8 (H, W) or (H, W, 3)"
            refuse(f"{text}, several of them as a list")
        is_grey = image.ndim == 3 and image.shape[-1] == 1
        return Image.fromarray(image[..., 0] if is_grey else image)
    if not isinstance(image, Image.Image):
        refuse(f"{type(image).__name__} is no image; give paths, PIL images or uint8 arrays")
    return image


def refuse(text: str) -> NoReturn:
    """What was given holds no image."""
    raise Refused([Problem("predict", text)], *UNPREDICTED)


def png(picture: Image.Image) -> bytes:
    """The picture as a file's bytes: it is then decoded, squared and resized as every other."""
    exif = picture.getexif()  # which may say how it is to be turned
    if picture.mode not in PNG_MODES:
        picture = to_mode(picture, "RGB")
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    return file.getvalue()
