"""From a source's name to its prepared images in memory, for the sides that run without a sweep."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylab.bench.bare import BareJob
from raylab.bench.stage import Stage
from raylab.config.trial import TrialConfig
from raylab.images.cache import cache_folder
from raylab.images.prepare import Variant, as_array, image_table, prepare
from raylab.images.source import Source
from raylab.images.variant import Format
from raylab.sweep.shards import Images, split_places


@dataclass(frozen=True)
class Faces:
    """A source and one of its variants; pixels: uint8 (rows, S, S, C)."""

    images: Images
    variant: Variant
    pixels: npt.NDArray[np.uint8]


def prepared(stage: Stage, source: Source, image_size: int, channels: int) -> Faces:
    """The variant a sweep will find, prepared now if it was not; needs the connected Ray."""
    folder = cache_folder(str(stage.folder))
    variant = prepare(source, Format(image_size, channels), folder, lambda done, total: None)
    images = Images.of(image_table(source, variant), source.classes, source.fingerprint)
    return Faces(images, variant, as_array(variant.table(), image_size, channels))


def bare_job(faces: Faces, config: TrialConfig, num_trials: int, *, naive: bool) -> BareJob:
    """The same config on the same images and the same split, for the bare loop."""
    sides = split_places(faces.images, config.split)
    return BareJob(
        config=config,
        images=faces.pixels[faces.images.rows],
        labels=faces.images.labels,
        train=sides.train,
        val=sides.val,
        num_classes=len(faces.images.classes),
        num_trials=num_trials,
        naive=naive,
    )
