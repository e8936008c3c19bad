"""From what a user names to a kept model, and the results that tell how it was made; no Ray."""

import contextlib
import textwrap
from dataclasses import dataclass
from typing import NoReturn

from safetensors import SafetensorError

from raylab import __version__
from raylab.config.choices import did_you_mean
from raylab.config.files import DESCRIPTION, WEIGHTS
from raylab.errors import Problem, Refused
from raylab.results.card import About, model_card, title
from raylab.results.directory import GRID, ResultsDirectory
from raylab.results.record import Record
from raylab.storage import Folder
from raylab.training.checkpoint import KeptModel, load_model
from raylab.training.export import preprocessing

MAX_LISTED = 10
MAX_REASON = 200
GIVEN = "given"
CARD = "MODEL_CARD.md"
# What is raised on files that are cut off, of another raylab's fields or of another timm's layers.
UNREADABLE = (ValueError, LookupError, TypeError, RuntimeError, SafetensorError)


@dataclass(frozen=True)
class Kept:
    """Where a kept model is."""

    folder: Folder
    results: ResultsDirectory | None
    """None where the folder stands alone, copied out of its results."""
    is_final: bool = False
    """Retrained on train and val by `raylab final`."""

    @property
    def trial_id(self) -> str:
        """The folder's own name."""
        return self.folder.name


def find_kept(model: str, trial: str | None = None) -> Kept:
    """model: the folder of a kept model, or a results directory whose `trial` (an id, or enough of
    its beginning) is meant; it may be left out where only one is kept. Refused if there is none.
    """
    folder = Folder(model)
    if trial is None and folder.exists(DESCRIPTION):
        kind = folder.above
        above = None if kind is None else kind.above
        results = None if above is None or not above.exists(GRID) else ResultsDirectory(above)
        return Kept(folder, results, is_final=kind is not None and kind.name == "final")
    results = ResultsDirectory(folder)
    kept = sorted(results.checkpoint_ids())
    matches = [trial_id for trial_id in kept if trial_id.startswith(trial or "")]
    if len(matches) == 1:
        return Kept(results.checkpoint(matches[0]), results)
    if not kept:
        refuse(folder.location, f"holds no model ({DESCRIPTION}), and no sweep's checkpoints")
    known = {record.trial_id: record for record in results.records()}
    listed = ", ".join(_named(trial_id, known.get(trial_id)) for trial_id in kept[:MAX_LISTED])
    if trial is None:
        refuse(folder.location, f"keeps {len(kept)} models; choose one with --trial: {listed}")
    if matches:
        text = f"begins {len(matches)} of {listed}; give more of it"
    elif any(trial_id.startswith(trial) for trial_id in known):
        text = f"its weights were not kept; those of {listed} were"
    else:
        text = f"no such trial{did_you_mean(trial, kept)}; kept are {listed}"
    return refuse(f"--trial {trial}", text)


def load_kept(place: Kept) -> KeptModel:
    """The model itself. Refused where its files are incomplete, damaged or of another raylab."""
    try:
        return load_model(place.folder)
    except FileNotFoundError:
        missing = [name for name in (WEIGHTS, DESCRIPTION) if not place.folder.exists(name)]
        text = f"is incomplete: {' and '.join(missing)} is missing; copy it anew, or choose another"
        refuse(place.folder.location, text)
    except UNREADABLE as error:
        reason = textwrap.shorten(str(error), MAX_REASON, placeholder=" …")
        text = f"cannot be read by raylab {__version__} ({reason}); use the raylab and timm that"
        refuse(place.folder.location, f"{text} trained it, or copy it anew")


def boxes_given(place: Kept) -> int:
    """Of how many images the source itself gave the face that the model learned from."""
    try:
        images = None if place.results is None else place.results.images()
    except FileNotFoundError:
        return 0
    if images is None or "face" not in images.column_names:
        return 0
    faces: list[str | None] = images["face"].to_pylist()
    return faces.count(GIVEN)


def refuse(place: str, text: str) -> NoReturn:
    """One problem, and nothing was read."""
    raise Refused([Problem(place, text)], "the request", "no model was loaded")


def _named(trial_id: str, record: Record | None) -> str:
    """`3f2a… (val_accuracy 0.7589)`."""
    if record is None or record.val_accuracy is None:
        return trial_id
    return f"{trial_id} (val_accuracy {record.val_accuracy:.4f})"


def card_beside(folder: Folder, file: str) -> str:
    """The name for the card of a file in the folder: MODEL_CARD.md, as long as none of another file
    is there.
    """
    with contextlib.suppress(FileNotFoundError):
        if not folder.read_bytes(CARD).startswith(title(file).encode()):
            return f"{file}.{CARD}"
    return CARD


def card_of(place: Kept, kept: KeptModel, file: str) -> str:
    """The model card of an exported file, in Markdown."""
    about = About(
        trial_id=place.trial_id,
        file=file,
        config=kept.config,
        classes=kept.classes,
        preprocessing=preprocessing(kept),
        is_final=place.is_final,
    )
    return model_card(about, place.results)
