"""From a source to a variant: every distinct image decoded and resized once, as Ray tasks.

A variant lies in `prepared/<variant_id>/` of the cache as Parquet parts, its manifest written last.
Its id follows from the contents, so renaming, splitting or relabelling images prepares nothing
anew. A part's name and rows follow from the id alone: an interrupted preparation goes on where it
stopped, and two at once write the same files.

Legend: N images, S = image_size, C = channels.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayError, RayTaskError

from raylab.config.trial import Crop
from raylab.errors import CannotFinish, CannotWrite, Problem, Refused
from raylab.images.cache import MANIFEST, variant_folder
from raylab.images.crop import crop_problem
from raylab.images.parts import UNREADABLE, Job, Written, write_part
from raylab.images.source import Source
from raylab.images.variant import PREPARE_VERSION, Format, distinct, variant_id
from raylab.storage import Folder

MAX_SHOWN_TROUBLES = 5
MAX_PART_BYTES = 32 * 2**20
MAX_PART_IMAGES = 1000
MIN_PART_IMAGES = 64
PARTS_WANTED = 16  # keeps every CPU busy and the progress bar moving for small sets
JOBS_AT_ONCE = 1000  # waiting or running; those of a CSV hold their images

Progress = Callable[[int, int], None]
"""Called with how many of how many distinct images are prepared."""


@dataclass(frozen=True)
class Variant:
    """A prepared set of distinct images; holds no pixels itself, so it travels cheaply."""

    variant_id: str
    image_size: int
    channels: int
    folder: Folder
    parts: tuple[str, ...]
    num_images: int
    num_ok: int
    crop: Crop = "none"

    @property
    def num_bytes(self) -> int:
        """Of the pixels in memory."""
        return self.num_ok * self.image_size**2 * self.channels

    def table(self) -> pa.Table:
        """sha256: string; pixels: fixed_size_binary (S*S*C). One chunk, ordered by sha256; images
        that could not be decoded are not in it.
        """
        names = ["sha256", "pixels", "status"]
        parts = [self.read_part(part, names) for part in self.parts]
        if self.num_ok < self.num_images:
            parts = [part.filter(pc.equal(part["status"], "ok")) for part in parts]
        return pa.concat_tables(parts).select(["sha256", "pixels"]).combine_chunks()

    def statuses(self) -> pa.Table:
        """sha256, width, height, status of every distinct image; width and height 0 if not ok.
        Where faces are cut out also face: found, given, none, or null if not ok.
        """
        names = ["sha256", "width", "height", "status"]
        names += ["face"] if self.crop == "face" else []
        return pa.concat_tables([self.read_part(part, names) for part in self.parts])

    def read_part(self, part: str, names: list[str]) -> pa.Table:
        """These columns of a part; CannotFinish where it is damaged."""
        try:
            return self.folder.read_table(part, names)
        except UNREADABLE as error:
            raise CannotFinish(
                f"{self.folder.path_of(part)} cannot be read: {error}\n"
                "If it is damaged, delete it: the same command prepares its images anew."
            ) from error


def as_array(table: pa.Table, image_size: int, channels: int) -> npt.NDArray[np.uint8]:
    """The `pixels` of a variant's table as uint8 (N, S, S, C); a read-only view, not a copy."""
    shape = (table.num_rows, image_size, image_size, channels)
    if table.num_rows == 0:
        return np.empty(shape, dtype=np.uint8)
    chunks = table["pixels"].chunks
    pixels = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    start = pixels.offset * image_size * image_size * channels
    flat = np.frombuffer(pixels.buffers()[1], dtype=np.uint8)
    return flat[start : start + int(np.prod(shape))].reshape(shape)


def find_variant(source: Source, form: Format, cache: Folder) -> Variant | None:
    """The variant, if it was prepared to the end."""
    name = variant_id(source, form)
    folder = variant_folder(cache, name)
    try:
        manifest = folder.read_json(MANIFEST)
        parts = tuple(manifest["parts"])
        counts = manifest["num_images"], manifest["num_ok"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    if not set(parts) <= set(folder.names()) or _has_empty(folder, parts):
        return None  # someone deleted parts to save space; prepare() writes those again
    return Variant(name, form.image_size, form.channels, folder, parts, *counts, form.crop)


def _has_empty(folder: Folder, parts: Sequence[str]) -> bool:
    """Whether a power cut emptied a part before the disk had it; a bucket knows no such files."""
    return folder.is_local and any(os.path.getsize(folder.path_of(part)) == 0 for part in parts)


def prepare(source: Source, form: Format, cache: Folder, progress: Progress) -> Variant:
    """The variant, prepared now if it was not before. Ray must be running; do this before trials
    hold the CPUs. CannotFinish if files changed or vanished since the scan, or no memory held one;
    Refused where faces are to be cut out and cannot.
    """
    ready = find_variant(source, form, cache)
    if ready is not None:
        progress(ready.num_images, ready.num_images)
        return ready
    if form.crop == "face" and (text := crop_problem(source)):
        raise Refused([Problem("crop", text)], source.location)
    name = variant_id(source, form)
    folder = variant_folder(cache, name)
    jobs = _jobs(distinct(source), form.num_bytes)
    num_images, num_ok = _run(jobs, folder, form, progress)
    manifest = {
        "version": PREPARE_VERSION,
        **asdict(form),
        "num_images": num_images,
        "num_ok": num_ok,
        "parts": [job.part for job in jobs],
    }
    folder.write_json(MANIFEST, manifest)
    parts = tuple(cast(list[str], manifest["parts"]))
    counts = num_images, num_ok
    return Variant(name, form.image_size, form.channels, folder, parts, *counts, form.crop)


def image_table(source: Source, variant: Variant) -> pa.Table:
    """One row per image of the source: image_id, path, label, sha256, width, height, group,
    given_split, status (`ok`, or why it was left out), face (null where the variant cuts none
    out), and votes where the source has them.
    """
    known = variant.statuses()
    index = pc.index_in(source.table["sha256"], value_set=known["sha256"].combine_chunks())
    status = pc.coalesce(source.table["trouble"], known["status"].combine_chunks().take(index))
    columns = {name: source.table[name] for name in ("image_id", "path", "label", "sha256")}
    for name in ("width", "height"):
        columns[name] = pc.fill_null(known[name].combine_chunks().take(index), 0)
    columns["group"] = source.table["group"]
    columns["given_split"] = source.table["given_split"]
    columns["status"] = status
    columns["face"] = pa.nulls(source.num_images, pa.string())
    if variant.crop == "face":
        columns["face"] = known["face"].combine_chunks().take(index)
    if source.has_votes:
        columns["votes"] = source.table["votes"]
    return pa.table(columns)


def _jobs(distinct: pa.Table, bytes_per_image: int) -> list[Job]:
    """One per part, whose name and rows follow from the images alone."""
    num_images = distinct.num_rows
    fitting = MAX_PART_BYTES // bytes_per_image
    wanted = max(MIN_PART_IMAGES, num_images // PARTS_WANTED)
    rows = max(1, min(fitting, wanted, MAX_PART_IMAGES))
    num_parts = -(-num_images // rows)
    return [
        Job(f"part-{i:05d}-of-{num_parts:05d}.parquet", distinct.slice(i * rows, rows))
        for i in range(num_parts)
    ]


def _run(jobs: Sequence[Job], folder: Folder, form: Format, progress: Progress) -> tuple[int, int]:
    """Writes all parts in parallel; (distinct images, ok ones).

    Plain tasks, not Ray Data's operators: its executor and the processes of its actors cost as
    much as the decoding of 10,000 faces, and there is no pipeline here to plan.
    """
    total = sum(job.images.num_rows for job in jobs)
    num_images = num_ok = 0
    troubles: list[str] = []
    progress(0, total)
    for written in _in_parallel(jobs, folder, form):
        num_images += written.num_images
        num_ok += written.num_ok
        troubles += written.troubles
        progress(num_images, total)
    if troubles:
        shown = "\n".join(troubles[:MAX_SHOWN_TROUBLES])
        raise CannotFinish(
            f"{shown}\n{len(troubles)} files changed, vanished or could not be decoded after they "
            "were scanned; no trial was started. Run the command again."
        )
    return num_images, num_ok


def _in_parallel(jobs: Sequence[Job], folder: Folder, form: Format) -> Iterator[Written]:
    """One task per part, wherever Ray has a CPU."""
    task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(write_part)
    left = iter(jobs)
    waiting: list[Any] = []
    try:
        waiting += [task.remote(job, folder, form) for job in islice(left, JOBS_AT_ONCE)]
        while waiting:
            done, waiting = ray.wait(waiting)
            waiting += [task.remote(job, folder, form) for job in islice(left, len(done))]
            yield from ray.get(done)
    except RayTaskError as error:
        if isinstance(error.cause, CannotWrite):
            raise error.cause from error
        raise _stopped(error) from error
    except RayError as error:
        raise _stopped(error) from error
    finally:
        for task_left in waiting:  # after an error, or Ctrl-C in a Ray that lives on
            ray.cancel(task_left)


def _stopped(error: RayError) -> CannotFinish:
    """The preparation ended by what Ray says."""
    reason = str(error).strip().splitlines()[-1]
    return CannotFinish(
        f"the preparation of the images was lost: {reason}\nThe same command goes on from there."
    )
