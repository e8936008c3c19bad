"""From a results directory back to what made it: its sweep, a trial's config, the same images."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from pydantic import ValidationError

from raylab import __version__
from raylab.config.choices import did_you_mean
from raylab.config.grid import read_grid
from raylab.config.identity import trial_id
from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Problem, Refused
from raylab.images.source import Source
from raylab.images.split import split_fingerprint
from raylab.results.directory import GRID, IMAGES, ResultsDirectory
from raylab.results.record import Record
from raylab.sweep.shards import Images


def read_sweep(results: ResultsDirectory, data: str | None = None) -> SweepConfig:
    """The sweep that the directory's resolved grid describes; `data` replaces its source.

    Refused if there is no grid, or if it or its data can no longer be read.
    """
    try:
        content = results.folder.read_bytes(GRID)
    except FileNotFoundError:
        text = "no such results directory, or it holds no grid.yaml"
        raise Refused([Problem(results.location, text)], "the results") from None
    place = results.path_of(GRID)
    if results.folder.is_local:
        return read_grid(Path(place), data=data, is_resolved=True)
    with tempfile.TemporaryDirectory(prefix="raylab-grid-") as folder:
        path = Path(folder) / GRID
        path.write_bytes(content)
        try:
            return read_grid(path, data=data, is_resolved=True)
        except Refused as refused:
            raise refused.placed(str(path), place, place) from None


def config_of(record: Record) -> TrialConfig:
    """The record's config as it was.

    Refused if this raylab would make another trial of it: a default, a field or what it means has
    changed since, and what it learned would not be what the record says.
    """
    try:
        config = TrialConfig.model_validate(record.trial)
        if record.trial and trial_id(config, record.data_fingerprint) == record.trial_id:
            return config
    except ValidationError:
        pass  # a field that is gone: another raylab's config as well
    text = (
        f"its config means another trial to this raylab ({__version__}) than to the one that ran "
        f"it ({record.raylab_version}, commit {record.git_sha}): a field or a default has changed; "
        "run the sweep again, or rerun with that version"
    )
    raise Refused([Problem(f"trial {record.trial_id}", text)], "the results", "nothing was trained")


def latest(records: Iterable[Record]) -> list[Record]:
    """Without those of an earlier raylab whose trial means another one to this raylab, where that
    one has run as well.
    """
    found = list(records)
    known = {record.trial_id for record in found}
    return [r for r in found if (today := _id_today(r)) == r.trial_id or today not in known]


def _id_today(record: Record) -> str | None:
    """None: its config is none to this raylab."""
    if not record.trial:
        return None
    try:
        return trial_id(TrialConfig.model_validate(record.trial), record.data_fingerprint)
    except ValidationError:
        return None


def find_record(results: ResultsDirectory, trial: str) -> Record:
    """The complete trial whose id begins so; Refused if there is none, or more than one."""
    records = results.records()
    matches = [record for record in records if record.trial_id.startswith(trial)]
    ids = ", ".join(sorted(record.trial_id for record in matches)[:5])
    problem = None
    if not matches:
        problem = f"no such trial{did_you_mean(trial, [r.trial_id for r in records])}"
    elif len(matches) > 1:
        problem = f"begins {len(matches)} trials ({ids}); give more of it"
    elif matches[0].status != "complete":
        problem = f"{matches[0].status}; only a complete trial can be repeated or extended"
    if problem:
        raise Refused([Problem(f"trial {trial}", problem)], "the request", "nothing was trained")
    return matches[0]


def check_same_data(source: Source, records: Iterable[Record], what: str) -> None:
    """Refused unless the images, labels, groups and given splits are those of some record."""
    known = sorted({record.data_fingerprint for record in records})
    if source.fingerprint in known:
        return
    text = (
        f"its images, labels, groups or given splits have changed since {what}: data fingerprint "
        f"{', '.join(known)} then, {source.fingerprint} now ({source.num_images:,} images); "
        "restore them, give their place with --data, or run the sweep again"
    )
    raise Refused([Problem(source.location, text)], "the data", "nothing was trained")


def images_of(results: ResultsDirectory, source: Source, harmless: str) -> Images:
    """The source's images; images.parquet says of each content whether it can be read, and no more:
    its labels are another state's where a sweep of changed data began since.

    Refused, with what is `harmless`, where it does not know an image.
    """
    known = results.images()
    places = pc.index_in(source.table["sha256"], value_set=known["sha256"].combine_chunks())
    if places.null_count:
        text = (
            f"lacks {places.null_count:,} of the {source.num_images:,} images of {source.location}:"
            " a sweep of other data began since; run `raylab sweep` on this data again, which "
            "reuses what is finished"
        )
        raise Refused([Problem(results.path_of(IMAGES), text)], "the data", harmless)
    votes = ["votes"] if source.has_votes else []
    told = ["image_id", "path", "label", "sha256", "group", "given_split", *votes]
    status = known["status"].combine_chunks().take(places)
    table = source.table.select(told).append_column("status", status)
    return Images.of(table, source.classes, source.fingerprint)


def sides_of(record: Record, images: Images, harmless: str) -> npt.NDArray[np.str_]:
    """str (N,): train, val, test or nothing, as the record's trial had it.

    Refused, with what is `harmless`, if that split cannot be made again.
    """
    sides = images.split(config_of(record).split)
    if split_fingerprint(sides, images.image_ids) == record.split_fingerprint:
        return sides
    text = "its split comes out otherwise now; images were left out or taken in since"
    problem = Problem(f"trial {record.trial_id}", f"{text}: run the sweep again")
    raise Refused([problem], "the request", harmless)
