"""From a finished trial to more epochs of it: a warm restart from its kept weights.

The longer trial is a sweep of one trial in extended/<trial_id>, beside the record of the trial that
it came from, so that every verb compares the two on the same validation images.
"""

from dataclasses import dataclass
from pathlib import Path

from raylab.after.alone import alone, only
from raylab.after.earlier import check_same_data, config_of, find_record, read_sweep
from raylab.config.files import WEIGHTS
from raylab.config.trial import TrialConfig
from raylab.errors import Problem, Refused
from raylab.images.source import scan
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record
from raylab.sweep.runner import Options, Outcomes

NOTHING = "nothing was trained"


@dataclass(frozen=True, slots=True)
class ExtendOptions:
    """What `raylab extend` was asked for."""

    results: str
    trial: str
    """The trial_id, or enough of its beginning."""
    epochs: int
    """So many more."""
    lr: float | None = None
    """Where the schedule begins again; None = the trial's own lr."""
    data: str | None = None
    address: str | None = None
    quiet: bool = False


def run_extend(options: ExtendOptions) -> tuple[ResultsDirectory, Outcomes]:
    """Train the trial's kept weights for more epochs, under its schedule begun anew (warm restart,
    Loshchilov and Hutter 2017), on its own split.

    Gives the results directory of both trials. Raises Refused where the trial or its weights are
    not there, or the data are others.
    """
    results = ResultsDirectory(options.results)
    sweep = read_sweep(results, options.data)
    record = find_record(results, options.trial)
    longer = only(sweep, longer_config(results, record, options), keep=1)
    source = scan(sweep.data)
    check_same_data(source, [record], "the trial ran")
    place = results.extended(record.trial_id)
    chosen = Options(place.location, options.address, retry_failed=True, quiet=options.quiet)
    with alone(longer, source, chosen) as sweeping:
        keep_beside(place, results, record)
        return place, sweeping.run()


def longer_config(results: ResultsDirectory, record: Record, options: ExtendOptions) -> TrialConfig:
    """The record's config for `options.epochs`, beginning with its kept weights."""
    config = config_of(record)
    weights = results.checkpoint(record.trial_id)
    if record.trial_id not in results.checkpoint_ids():
        kept = ", ".join(sorted(results.checkpoint_ids())) or "none"
        text = (
            f"its weights were not kept (kept: {kept}); raise `keep`, and run the grid with --fresh"
        )
        raise Refused([Problem(f"trial {record.trial_id}", text)], "the request", NOTHING)
    if not weights.is_local:
        text = f"{weights.location}: weights behind a URI cannot be trained on; copy the results"
        raise Refused([Problem(f"trial {record.trial_id}", text)], "the request", NOTHING)
    if options.epochs <= config.warmup_epochs:
        text = f"{options.epochs} must be > the trial's warmup_epochs, {config.warmup_epochs:g}"
        raise Refused([Problem("--epochs", text)], "the options", NOTHING)
    given = {
        "epochs": options.epochs,
        "lr": config.lr if options.lr is None else options.lr,
        "pretrained": str(Path(weights.location) / WEIGHTS),
        "pretrained_digest": "",
    }
    return TrialConfig.model_validate(config.model_dump(mode="json") | given)


def keep_beside(place: ResultsDirectory, results: ResultsDirectory, record: Record) -> None:
    """The record and what it validated on, where the longer trial's will be."""
    place.add(record)
    predictions = f"predictions/{record.trial_id}.parquet"
    if results.folder.exists(predictions):
        place.folder.write_bytes(predictions, results.folder.read_bytes(predictions))
