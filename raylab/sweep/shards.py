"""From prepared images and a split to what one worker of a trial holds: pixels, labels, places.

N = readable images, M = images of one worker, S = image_size in px, C = channels.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data
from ray.exceptions import ObjectLostError

from raylab.config.trial import SplitConfig, TrialConfig
from raylab.errors import CannotFinish
from raylab.images.mapped import mapped_pixels
from raylab.images.prepare import Variant, as_array
from raylab.images.split import assign
from raylab.images.suspects import unsuspected
from raylab.images.teacher import taught_by
from raylab.images.variant import Format
from raylab.images.votes import soft_labels

Places = npt.NDArray[np.int64]
Datasets = dict[str, ray.data.Dataset | Callable[[], ray.data.Dataset]]
"""As Ray Train takes them, by name."""


@dataclass(frozen=True, slots=True)
class Images:
    """The readable images of the source, in the order of images.parquet.

    table: N rows of images.parquet; labels: int64 (N,), index into classes; rows: int64 (N,), the
    image's row in every prepared variant, where identical images share one; soft_labels: float32
    (N, K), shares of the votes, None where nobody voted.
    """

    table: pa.Table
    labels: Places
    rows: Places
    classes: tuple[str, ...]
    fingerprint: str
    soft_labels: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, images: pa.Table, classes: tuple[str, ...], fingerprint: str) -> "Images":
        """The images whose status is ok."""
        table = images.filter(pa.compute.equal(images["status"], "ok"))
        sha256s = np.array(table["sha256"].to_pylist(), dtype=np.str_)
        index = {name: place for place, name in enumerate(classes)}
        labels = np.array([index[label] for label in table["label"].to_pylist()], np.int64)
        return cls(
            table=table,
            labels=labels,
            rows=np.searchsorted(np.unique(sha256s), sha256s).astype(np.int64),
            classes=classes,
            fingerprint=fingerprint,
            soft_labels=soft_labels(table, labels, len(classes)),
        )

    def check_rows(self, variants: Iterable[Variant]) -> None:
        """CannotFinish where a variant holds more or fewer images than these, as one may that
        another Pillow prepared: their rows would be paired with wrong labels.
        """
        num_rows = int(self.rows.max(initial=-1)) + 1
        for variant in variants:
            if variant.num_ok != num_rows:
                raise CannotFinish(
                    f"{variant.folder.location} holds {variant.num_ok:,} readable images where "
                    f"{num_rows:,} are expected: it was prepared with another version of Pillow. "
                    "Delete that folder and run the command again; no trial was started."
                )

    @property
    def image_ids(self) -> list[str]:
        ids: list[str] = self.table["image_id"].to_pylist()
        return ids

    def taught(self, config: TrialConfig, held_out: Places) -> npt.NDArray[np.float32] | None:
        """float32 (N, K): what the config learns in place of labels, None where it learns those;
        held_out: int64, places that validate or test.

        ValueError without the votes it asks for, or where its teacher does not fit (`taught_by`).
        """
        if config.soft_labels and self.soft_labels is None:
            raise ValueError("soft_labels: the source has no votes")
        votes = self.soft_labels if config.soft_labels else None
        if not config.teacher:
            return votes
        targets = np.eye(len(self.classes), dtype=np.float32)[self.labels]
        targets = targets if votes is None else votes
        return taught_by(config, targets, self.image_ids, self.classes, held_out)

    def split(self, split: SplitConfig) -> npt.NDArray[np.str_]:
        """str (N,): train, val, test or nothing, per image."""
        return assign(self.table, split)


@dataclass(frozen=True, slots=True)
class Shard:
    """What one worker trains and validates on.

    labels: int64 (M,); pixel_rows: int64 (M,), each image's row in the worker's pixels;
    train, val: int64, places among the M; val_order: int64, the worker's validation images' places
    among those of the whole trial; soft_labels: float32 (M, K), learned in place of labels.
    """

    labels: Places
    pixel_rows: Places
    train: Places
    val: Places
    val_order: Places
    soft_labels: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """The two sides of a split as int64 places in `Images`."""

    train: Places
    val: Places


# Kept between the trials of a reused process: splits, and one shard's pixels under its name.
_SPLITS: dict[tuple[str, SplitConfig], Trained] = {}
_RESIDENT: dict[str, npt.NDArray[np.uint8]] = {}


def split_places(images: Images, split: SplitConfig) -> Trained:
    """The places that train and that validate; hashing 30,000 images again would cost 0.1 s."""
    key = (images.fingerprint, split)
    if key not in _SPLITS:
        sides = images.split(split)
        _SPLITS[key] = Trained(np.flatnonzero(sides == "train"), np.flatnonzero(sides == "val"))
    return _SPLITS[key]


def trained_places(images: Images, config: TrialConfig) -> Trained:
    """The places that train and that validate; suspects are left out of the former.

    ValueError where `drop_suspects` leaves nothing out, or is not the file meant.
    """
    sides = split_places(images, config.split)
    if not config.drop_suspects:
        return sides
    return Trained(unsuspected(sides.train, images.image_ids, config), sides.val)


def deal(
    images: Images,
    sides: Trained,
    num_workers: int,
    soft_labels: npt.NDArray[np.float32] | None = None,
) -> list[Shard]:
    """Every train and val image on exactly one worker, the classes dealt out evenly.

    One Shard per rank, all of them over the pixels of the whole variant.
    """
    by_class = sides.train[np.argsort(images.labels[sides.train], kind="stable")]
    shards = []
    for rank in range(num_workers):
        val_order = np.arange(rank, len(sides.val), num_workers)
        train, val = np.sort(by_class[rank::num_workers]), sides.val[val_order]
        shards.append(Shard(images.labels, images.rows, train, val, val_order, soft_labels))
    return shards


def cut(shards: list[Shard], pixels: npt.NDArray[np.uint8]) -> tuple[list[Shard], Datasets]:
    """The shards over pixels of their own, and the Ray Dataset `images_<rank>` of each.

    pixels: uint8 (rows, S, S, C) of the whole variant.
    """
    own: list[Shard] = []
    datasets: Datasets = {}
    for rank, shard in enumerate(shards):
        mine = np.concatenate([shard.train, shard.val])
        datasets[f"images_{rank}"] = ray.data.from_arrow(
            pixel_table(pixels[shard.pixel_rows[mine]])
        )
        places = np.arange(len(mine))
        num_train = len(shard.train)
        own.append(
            Shard(
                labels=shard.labels[mine],
                pixel_rows=places,
                train=places[:num_train],
                val=places[num_train:],
                val_order=shard.val_order,
                soft_labels=None if shard.soft_labels is None else shard.soft_labels[mine],
            )
        )
    return own, datasets


def dataset_of(variant: Variant) -> ray.data.Dataset:
    """The variant's readable images as a materialised Ray Dataset of one block."""
    pixels = as_array(variant.table(), variant.image_size, variant.channels)
    return ray.data.from_arrow(pixel_table(pixels))


def pixel_table(pixels: npt.NDArray[np.uint8]) -> pa.Table:
    """uint8 (M, S, S, C) -> a table with one column of M byte strings; nothing is copied."""
    num_bytes = int(np.prod(pixels.shape[1:]))
    buffer = pa.py_buffer(np.ascontiguousarray(pixels))
    column = pa.Array.from_buffers(pa.binary(num_bytes), len(pixels), [None, buffer])
    return pa.table({"pixels": column})


def resident_pixels(
    dataset: Any, key: str, image_size: int, channels: int
) -> npt.NDArray[np.uint8]:
    """uint8 (M, S, S, C): the shard's pixels, kept between the trials of a reused process.

    A read-only view of the object store's page, which the processes of a node share.
    """
    if key not in _RESIDENT:
        _RESIDENT.clear()
        whole = dataset if isinstance(dataset, ray.data.Dataset) else dataset.materialize()
        tables = ray.get(whole.to_arrow_refs())
        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
        _RESIDENT[key] = as_array(table, image_size, channels)
    return _RESIDENT[key]


def variant_pixels(dataset: Any, variant: Variant) -> npt.NDArray[np.uint8]:
    """uint8 (M, S, S, C) of the whole variant; mapped from its files where Ray has lost the blocks,
    which the driver put there once and no task could make again.
    """
    try:
        return resident_pixels(dataset, variant.variant_id, variant.image_size, variant.channels)
    except ObjectLostError:
        return mapped_pixels(variant)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A variant for trials: its materialised Dataset, None where memory does not hold it."""

    variant: Variant
    dataset: ray.data.Dataset | None


Variants = Mapping[Format, Prepared]
"""By the format in which a trial sees its images."""


def loaded(
    variants: Mapping[Format, Variant], memory_bytes: float, tell: Callable[[str], object]
) -> Variants:
    """The variants in the object store as far as it holds them, the smallest first; `tell` hears
    of the others.
    """
    found: dict[Format, Prepared] = {}
    left = memory_bytes
    for key, variant in sorted(variants.items(), key=lambda item: item[1].num_bytes):
        if variant.num_bytes <= left:
            left -= variant.num_bytes
            found[key] = Prepared(variant, dataset_of(variant))
            continue
        found[key] = Prepared(variant, None)
        tell(
            f"the images at {key} take {variant.num_bytes / 1e9:,.2f} GB and "
            f"{left / 1e9:,.2f} GB are left for them: they are read from disk"
        )
    return found
