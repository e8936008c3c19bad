"""From a few images of a source to one Parquet part of a variant: what a task of the preparation
does. It knows no Ray, whose workers import it in a fraction of what Ray Data costs them.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raylab.images.crop import look
from raylab.images.decode import DecodeError
from raylab.images.found import read_content
from raylab.images.variant import Format
from raylab.storage import Folder

UNREADABLE = (OSError, pa.ArrowException)
"""What a Parquet file raises that is gone or damaged."""


@dataclass(frozen=True)
class Job:
    """The images of one part."""

    part: str
    """The name of its file."""
    images: pa.Table
    """sha256, file, pixels, box, as `distinct` gives them."""

    def __reduce__(self) -> tuple[Any, ...]:
        """As Arrow's bytes: a pickled slice would carry the whole table that it is cut from."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.images.schema) as writer:
            writer.write_table(self.images)
        return _job, (self.part, sink.getvalue().to_pybytes())


def _job(part: str, images: bytes) -> Job:
    return Job(part, pa.ipc.open_stream(images).read_all())


@dataclass(frozen=True)
class Written:
    """What became of a job."""

    num_images: int
    num_ok: int
    troubles: tuple[str, ...] = ()
    """A sentence per file that is not what was scanned, or that no memory held; then nothing was
    written.
    """


def write_part(job: Job, folder: Folder, form: Format) -> Written:
    """Decode the images and write their part, unless an earlier run did. Raises CannotWrite."""
    statuses = _written(job.part, folder)
    if statuses is None:
        rows, troubles = _decode_all(job.images.to_pylist(), form)
        if troubles:
            return Written(len(rows), 0, tuple(troubles))
        table = pa.Table.from_pylist(rows, schema=_schema(form))
        folder.write_table(job.part, table)
        statuses = table["status"]
    return Written(len(statuses), pc.sum(pc.equal(statuses, "ok")).as_py() or 0)


def _written(part: str, folder: Folder) -> pa.ChunkedArray | None:
    """The statuses of the part that an earlier run wrote; None if none did, or it is damaged."""
    try:
        return folder.read_table(part, ["status"])["status"]
    except UNREADABLE:
        return None


def _decode_all(
    images: list[dict[str, Any]], form: Format
) -> tuple[list[dict[str, Any]], list[str]]:
    rows, troubles = [], []
    for image in images:
        try:
            rows.append(_decode(image, form))
        except (OSError, _ChangedError) as error:
            troubles.append(f"{image['file']}: {error}")
        except MemoryError:  # says nothing of the image that another hour or machine would say
            name = image["file"] or "an image inside a table"
            troubles.append(f"{name}: no memory to decode it; free some, or leave it out")
    return rows, troubles


def _decode(image: dict[str, Any], form: Format) -> dict[str, Any]:
    """One row. A status is kept for this content for ever, so the content must be the one."""
    content = image["pixels"] if image["file"] is None else read_content(image["file"])
    if hashlib.sha256(content).hexdigest() != image["sha256"]:
        raise _ChangedError("its content is not what was scanned")
    row = {"sha256": image["sha256"], "width": 0, "height": 0}
    try:
        seen = look(content, form, image["box"])
    except DecodeError as error:
        return {**row, "pixels": None, "status": str(error)}
    told = {"width": seen.width, "height": seen.height, "face": seen.face}
    return {**row, **told, "pixels": seen.pixels.tobytes(), "status": "ok"}


def _schema(form: Format) -> pa.Schema:
    columns = [
        ("sha256", pa.string()),
        ("pixels", pa.binary(form.num_bytes)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("status", pa.string()),
    ]
    return pa.schema(columns + ([("face", pa.string())] if form.crop == "face" else []))


class _ChangedError(Exception):
    """A file's content is not the one that was hashed by the scan."""
