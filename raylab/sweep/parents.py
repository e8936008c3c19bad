"""From `pretrained: trial:<trial_id>` to that trial's kept weights as a file at hand."""

import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from raylab.config.expand import values_of
from raylab.config.files import DESCRIPTION, WEIGHTS, parent_of
from raylab.config.sweep import SweepConfig
from raylab.config.trial import SplitConfig, TrialConfig
from raylab.errors import Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.storage import Folder
from raylab.sweep.shards import Images, Places


def missing_weights(results: ResultsDirectory, trial_ids: Iterable[str]) -> list[str]:
    """Those of the trials whose weights are not there."""
    wanted = sorted(set(trial_ids))
    return [name for name in wanted if not results.checkpoint(name).exists(WEIGHTS)]


def refuse_orphan(results: ResultsDirectory, trial_id: str, config: TrialConfig, lost: str) -> None:
    """Refused, with what is `lost`, if the weights with which the trial began are gone."""
    parent = parent_of(config.pretrained)
    if parent is not None and missing_weights(results, [parent]):
        text = f"it began with the weights of trial {parent}, which {results.location} no longer"
        problem = Problem(
            f"trial {trial_id}", f"{text} keeps; raise `keep` in the grid, and run it with --fresh"
        )
        raise Refused([problem], "the request", lost)


def refuse_strangers(results: ResultsDirectory, sweep: SweepConfig) -> None:
    """Refused if a trial of which the grid says that others begin with it keeps no weights."""
    missing = missing_weights(results, named_parents(sweep))
    if missing:
        kept = ", ".join(sorted(results.checkpoint_ids())) or "none"
        text = f"{results.location} keeps no weights of {{}} (kept: {kept})"
        raise Refused([Problem("pretrained", text.format(name)) for name in missing], "the grid")


def named_parents(sweep: SweepConfig) -> set[str]:
    """The trials of which the grid itself says that others begin with them."""
    given = values_of(sweep, "pretrained")
    return {parent for value in given if (parent := parent_of(value)) is not None}


def refuse_learned(
    results: ResultsDirectory, images: Images, beginnings: Collection[tuple[str, SplitConfig]]
) -> None:
    """Refused if a trial would validate or test on images from which the one with which it begins
    learned; beginnings: that trial and the split, of each kind of trial.
    """
    learned = learned_by(results, {parent for parent, _ in beginnings})
    problems = []
    for parent, split in beginnings:
        held_out = np.flatnonzero(np.isin(images.split(split), ("val", "test")))
        if num := num_among(images, held_out, learned[parent]):
            problems.append(Problem("pretrained", learned_text(parent, num)))
    if problems:
        raise Refused(dict.fromkeys(problems), "the grid")


def learned_text(parent: str, num_learned: int) -> str:
    """What is wrong with weights that know images held out from those who begin with them."""
    return (
        f"trial {parent} trained on {num_learned:,} images which are held out here; a trial must "
        "have the split of the one with which it begins (the same split.seed, shares and fold), or "
        "its accuracy would be too good to be true"
    )


def learned_by(results: ResultsDirectory, trial_ids: Collection[str]) -> dict[str, set[str]]:
    """The images from which each of the trials learned, or those with which it began; what the
    results no longer tell is not among them.
    """
    known = {
        record.trial_id: (record.split_fingerprint, parent_of(str(record.config.get("pretrained"))))
        for record in (results.each_record() if trial_ids else ())
    }
    found: dict[str, set[str]] = {}
    for trial_id in trial_ids:
        learned = found.setdefault(trial_id, set())
        begun_with: str | None = trial_id
        while begun_with is not None and begun_with in known:
            split_fingerprint, begun_with = known[begun_with]
            if results.has_split(split_fingerprint):
                split = results.split(split_fingerprint)
                trained = split.filter(pc.equal(split["split"], "train"))
                learned.update(trained["image_id"].to_pylist())
    return found


def num_among(images: Images, places: Places, image_ids: Collection[str]) -> int:
    """How many of the images at these places are among those."""
    return sum(images.image_ids[place] in image_ids for place in places)


@contextmanager
def begun(config: TrialConfig, results: str) -> Iterator[TrialConfig]:
    """The config that names the file in place of the trial of `results` (a path or a URI); any
    other config as it is. What lies behind a URI is copied here for so long.

    Raises ValueError where the weights are not kept.
    """
    parent = parent_of(config.pretrained)
    if parent is None:
        yield config
        return
    folder = ResultsDirectory(results).checkpoint(parent)
    if not folder.exists(WEIGHTS):
        raise ValueError(f"pretrained: the weights of trial {parent} are not in {folder.location}")
    if folder.is_local:
        yield with_file(config, Path(folder.location))
        return
    with tempfile.TemporaryDirectory(prefix="raylab-parent-") as place:
        copy_model(folder, Folder(place))
        yield with_file(config, Path(place))


def with_file(config: TrialConfig, folder: Path) -> TrialConfig:
    """The config that begins with the model kept in the folder."""
    named = {"pretrained": str(folder / WEIGHTS), "pretrained_digest": ""}
    return config.model_copy(update=named)


@contextmanager
def lent(results: ResultsDirectory, config: TrialConfig, place: ResultsDirectory) -> Iterator[None]:
    """What a trial of `results` begins with, also at `place`, for so long."""
    parent = parent_of(config.pretrained)
    if parent is None:
        yield
        return
    copy_model(results.checkpoint(parent), place.checkpoint(parent))
    try:
        yield
    finally:
        place.delete_checkpoint(parent)


def copy_model(source: Folder, target: Folder) -> None:
    """A kept model at a second place."""
    for name in (WEIGHTS, DESCRIPTION):
        target.write_bytes(name, source.read_bytes(name))
