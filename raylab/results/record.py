"""From a trial's config and its epochs to its record: one leaderboard row and its epoch rows."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import harmonic_mean
from typing import Any, Literal, cast, get_args

import pyarrow as pa

from raylab import __version__
from raylab.config import identity
from raylab.config.sweep import EPOCH_METRICS, metric_mode
from raylab.config.trial import TrialConfig
from raylab.results.intervals import wilson

Status = Literal["complete", "pruned", "failed"]
Scalar = str | int | float | bool | None

BEFORE = {name: TrialConfig.model_fields[name].default for name in sorted(identity.ADDED)}
"""What trials did of which a record says nothing, since the field came later."""

EPOCH_SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("epoch", pa.int64()),
        *((name, pa.float64()) for name in EPOCH_METRICS),
        ("lr", pa.float64()),
        ("seconds", pa.float64()),
        ("train_images_per_s", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Record:
    """How one trial ended. A measure that was never taken is None; its `error` says why."""

    trial_id: str
    """12 hex: identity of what was learned, and from which data."""
    family_id: str
    """12 hex: the same without the seed."""
    status: Status
    config: Mapping[str, Scalar]
    """Every trial field under its own dotted name."""
    data_fingerprint: str
    split_fingerprint: str
    val_accuracy: float | None = None
    """Of the best epoch by the sweep's metric, as are the other measures."""
    val_accuracy_low: float | None = None
    """Lower end of the 95 % Wilson interval."""
    val_accuracy_high: float | None = None
    val_macro_f1: float | None = None
    val_loss: float | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    best_epoch: int | None = None
    """1-based."""
    num_epochs: int = 0
    """Epochs that ran; fewer than `epochs` if the trial was pruned or failed."""
    num_train: int | None = None
    num_val: int | None = None
    seconds: float = 0.0
    """Wall time of the trial."""
    train_images_per_s: float | None = None
    num_workers: int = 1
    num_restarts: int = 0
    """How often it went on, or began anew, after its process, its node or the sweep was lost."""
    device: str = "cpu"
    precision: str | None = None
    """In which the convolutions were computed: float32, bfloat16 or float16."""
    num_micro_batches: int | None = None
    """Parts into which every batch was cut because memory did not hold it whole; 1 = uncut."""
    raylab_version: str = ""
    git_sha: str | None = None
    environment_id: str | None = None
    """Names the environment it ran in: environments/<environment_id>.json."""
    started_at: str = ""
    """ISO 8601, UTC."""
    error_kind: str | None = None
    """The exception's name."""
    error: str | None = None
    """Cause and path of the log."""
    epochs: tuple[Mapping[str, Scalar], ...] = field(default=(), repr=False)
    trial: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole config, nested: what TrialConfig is made from again. In no leaderboard."""

    @property
    def cause(self) -> tuple[str, str]:
        """Kind and text of the error, the text without its numbers: alike for failures of one
        cause (a loss that became nan in epoch 2 or 3).
        """
        return self.error_kind or "unknown", without_numbers(self.error or "")

    def outcome(self, metric: str) -> float | None:
        """The value that ranks it; None for a failed trial."""
        value = None if self.status == "failed" else getattr(self, metric)
        return None if value is None else float(value)

    @property
    def brief(self) -> "Record":
        """The same without epochs and nested config, a fraction of its memory."""
        return replace(self, epochs=(), trial={})

    def row(self) -> dict[str, Scalar]:
        """The leaderboard row; the config's fields stand between the identity and the measures."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name in _PLAIN_COLUMNS}
        return {**values, **self.config}

    def to_json(self) -> dict[str, Any]:
        """The record as JSON's own types."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        epochs = [dict(epoch) for epoch in self.epochs]
        return {**values, "config": dict(self.config), "trial": dict(self.trial), "epochs": epochs}

    @classmethod
    def from_json(cls, given: Any) -> "Record":
        """The record that `to_json` gave; keys of a later raylab are passed over.

        ValueError if it is none.
        """
        if not isinstance(given, Mapping) or given.get("status") not in get_args(Status):
            raise ValueError("not a trial's record")
        values = {key: value for key, value in given.items() if key in _FIELDS}
        try:
            epochs = values.get("epochs", ())
            values["epochs"] = tuple(e if isinstance(e, dict) else dict(e) for e in epochs)
            config = dict(values["config"])
            values["config"] = config | {k: v for k, v in BEFORE.items() if k not in config}
            values["trial"] = dict(values.get("trial", {}))
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a trial's record: {error}") from error


def without_numbers(text: str) -> str:
    """Errors of one cause differ in their numbers alone."""
    return re.sub(r"[\d.]+(e[-+]?\d+)?", "#", text)


def record_from(
    config: TrialConfig,
    data_fingerprint: str,
    split_fingerprint: str,
    epochs: Sequence[Mapping[str, Any]],
    status: Status,
    metric: str = "val_accuracy",
    *,
    num_train: int | None = None,
    num_val: int | None = None,
    seconds: float | None = None,
    num_workers: int = 1,
    device: str = "cpu",
    git_sha: str | None = None,
    environment_id: str | None = None,
    started_at: str = "",
    error_kind: str | None = None,
    error: str | None = None,
    num_restarts: int = 0,
) -> Record:
    """The record of a trial that has ended in any way; its measures are those of its best epoch."""
    rows = tuple({key: _finite(value) for key, value in epoch.items()} for epoch in epochs)
    spent = sum(float(row.get("seconds") or 0) for row in rows) if seconds is None else seconds
    return Record(
        trial_id=identity.trial_id(config, data_fingerprint),
        family_id=identity.family_id(config, data_fingerprint),
        status=status,
        config=config.flat(),
        data_fingerprint=data_fingerprint,
        split_fingerprint=split_fingerprint,
        **_measures(rows, metric, num_val),
        num_train=num_train,
        num_val=num_val,
        seconds=spent,
        num_workers=num_workers,
        device=device,
        raylab_version=__version__,
        git_sha=git_sha,
        environment_id=environment_id,
        started_at=started_at,
        error_kind=error_kind,
        error=error,
        num_restarts=num_restarts,
        epochs=rows,
        trial=config.model_dump(mode="json"),
    )


def best_epoch(epochs: Iterable[Mapping[str, Any]], metric: str) -> Mapping[str, Any]:
    """The best epoch's row, the earlier one of equals; empty if no epoch measured the metric.

    A metric that only the whole trial has (seconds, train_images_per_s) leaves the choice of the
    epoch to val_accuracy.
    """
    name = metric if metric in EPOCH_METRICS else "val_accuracy"
    sign = 1 if metric_mode(name) == "max" else -1
    measured = [row for row in epochs if _finite(row.get(name)) is not None]
    return max(measured, key=lambda row: (sign * row[name], -row["epoch"]), default={})


def _measures(
    epochs: Sequence[Mapping[str, Any]], metric: str, num_val: int | None
) -> dict[str, Any]:
    """What was measured in the best epoch, its interval, and the speed over all epochs."""
    best = best_epoch(epochs, metric)
    accuracy = best.get("val_accuracy")
    low, high = None, None
    if accuracy is not None and num_val:
        low, high = wilson(round(accuracy * num_val), num_val)
    rates = [rate for row in epochs if (rate := row.get("train_images_per_s"))]
    return {
        **{name: best.get(name) for name in EPOCH_METRICS},
        "val_accuracy_low": low,
        "val_accuracy_high": high,
        "best_epoch": best.get("epoch"),
        "precision": epochs[-1].get("precision") if epochs else None,
        "num_micro_batches": epochs[-1].get("num_micro_batches") if epochs else None,
        "num_epochs": len(epochs),
        "train_images_per_s": harmonic_mean(rates) if rates else None,  # epochs are equally long
    }


def leaderboard_table(records: Iterable[Record]) -> pa.Table:
    """One row per record, in the order of their start; the columns are there without any record."""
    ordered = sorted(records, key=lambda record: (record.started_at, record.trial_id))
    return pa.Table.from_pylist([record.row() for record in ordered], schema=LEADERBOARD_SCHEMA)


def epochs_table(records: Iterable[Record]) -> pa.Table:
    """One row per trial and epoch."""
    ordered = sorted(records, key=lambda record: (record.started_at, record.trial_id))
    rows = [{"trial_id": r.trial_id, **epoch} for r in ordered for epoch in r.epochs]
    return pa.Table.from_pylist(rows, schema=EPOCH_SCHEMA)


def _finite(value: Any) -> Any:
    """The value, or None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, float | int) and not math.isfinite(value):
        return None
    return value


def _leaderboard_schema() -> pa.Schema:
    """Types that do not depend on which rows happen to be there."""
    number = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    config = [(name, number[type(value)]) for name, value in TrialConfig().flat().items()]
    measures = [
        (f.name, _type_of(cast(Any, f.type)))
        for f in fields(Record)
        if f.name in _PLAIN_COLUMNS and f.name not in _IDENTITY_COLUMNS
    ]
    return pa.schema([(name, pa.string()) for name in _IDENTITY_COLUMNS] + config + measures)


def _type_of(annotation: Any) -> pa.DataType:
    parts = get_args(annotation) or (annotation,)
    if int in parts:
        return pa.int64()
    return pa.float64() if float in parts else pa.string()


_FIELDS = frozenset(f.name for f in fields(Record))
_IDENTITY_COLUMNS = ("trial_id", "family_id", "status")
_PLAIN_COLUMNS = _FIELDS - {"config", "epochs", "trial"}
CONFIG_COLUMNS: tuple[str, ...] = tuple(TrialConfig().flat())
LEADERBOARD_SCHEMA = _leaderboard_schema()
