"""A grid, as a file or as a mapping → a sweep that was run, and what came out of it."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from raylab.api.boards import leaderboard
from raylab.api.models import Model, load_model
from raylab.config.grid import read_grid
from raylab.config.sweep import SweepConfig
from raylab.errors import Problem, Refused
from raylab.results.record import Record
from raylab.sweep.runner import Options, run_sweep


@dataclass(frozen=True)
class SweepResults:
    """What a sweep left. In a notebook it shows itself as its leaderboard."""

    location: str
    """The results directory."""
    metric: str
    records: tuple[Record, ...]
    """In brief, without their epochs."""
    interrupted: bool = False
    """By the stop button: everything finished is kept, and the same call goes on."""
    advice: str | None = None
    """Why it stopped early of its own accord, and what to do."""

    def leaderboard(self) -> pd.DataFrame:
        """The ranked trials of the results directory."""
        return leaderboard(self.location, by=self.metric)

    def failed(self) -> dict[str, str]:
        """By trial_id, why it failed."""
        return {r.trial_id: f"{r.error_kind}: {r.error}" for r in self.records if r.error_kind}

    def load_model(self, trial: str | None = None) -> Model:
        """A model that was kept; without a trial the best."""
        return load_model(self.location, trial)

    def _repr_html_(self) -> str:
        if not self.records:
            return "no trial has ended yet"
        html: str = self.leaderboard().head(20).to_html(index=False)
        return html


def sweep(
    grid: str | Path | Mapping[str, Any],
    data: str | Path | None = None,
    results: str | Path | None = None,
    address: str | None = None,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> SweepResults:
    """Run all trials of a grid: a file, or a mapping of the same keys. Finished ones are reused.

    A path in a mapping is relative to where the notebook runs. `overrides` are grid keys, such as
    `seeds=[0, 1]` or `**{"trial.epochs": 5}`. A Ray that the process has joined already is used.
    Raises Refused for a sweep that cannot begin, CannotFinish for one that Ray gave up; trials
    that fail are no error here, and stand in `failed()`.
    """
    if address and address.startswith("http"):
        text = "a function cannot be sent as a Ray job; use `raylab sweep` in a terminal"
        raise Refused([Problem(f"address {address}", text)], "the call")
    wanted = read_any(grid, data, overrides)
    location = str(results or f"results/{wanted.name}")
    ran = run_sweep(wanted, Options(location, address, fresh, retry_failed, quiet))
    return SweepResults(location, wanted.metric, ran.records, ran.interrupted, ran.advice)


def read_any(
    grid: str | Path | Mapping[str, Any], data: str | Path | None, overrides: Mapping[str, Any]
) -> SweepConfig:
    """The checked sweep. Refused with all that is wrong in it."""
    data = None if data is None else as_path("data", data)
    settings = [f"{key}={as_yaml(key, value)}" for key, value in overrides.items()]
    if not isinstance(grid, Mapping):
        return read_grid(Path(as_path("grid", grid)), overrides=settings, data=data)
    with as_file(grid) as path:
        try:
            return read_grid(path, overrides=settings, data=data, base=Path.cwd())
        except Refused as refused:
            raise refused.placed(str(path), "grid", "the grid") from None


@contextmanager
def as_file(grid: Mapping[str, Any]) -> Iterator[Path]:
    """The mapping as a grid file, for as long as it is read."""
    with tempfile.TemporaryDirectory(prefix="raylab-grid-") as folder:
        path = Path(folder, "notebook.yaml")
        text = yaml.safe_dump(plain(grid), sort_keys=False, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
        yield path


def plain(value: Any, place: str = "grid") -> Any:
    """What notebooks hold (numbers and arrays of numpy, pandas and torch, paths, ranges) as YAML
    has it. Refused, with its place in the grid, for what YAML has not.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {plain(key, place): plain(item, f"{place}.{key}") for key, item in value.items()}
    if hasattr(value, "__array__"):
        value = np.asarray(value)[()]  # [()]: an array without sides is a number
    if isinstance(value, np.generic):
        return as_written(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item, place) for item in value]
    if type(value) not in yaml.SafeDumper.yaml_representers:
        text = f"{value!r} is a {type(value).__name__}; give numbers, text, paths or lists of them"
        raise Refused([Problem(place, text)], "the grid")
    return value


def as_written(number: np.generic) -> Any:
    """numpy's value as Python's; a float32 as it is written: 0.001, not 0.0010000000474974513."""
    return float(str(number)) if isinstance(number, np.floating) else number.item()


def as_yaml(key: str, value: Any) -> str:
    """The value on one line, as --set reads it."""
    listed = [plain(value, key)]
    return yaml.safe_dump(listed, default_flow_style=True, width=1_000_000).strip()[1:-1]


def as_path(key: str, value: Any) -> str:
    """Refused where it is none."""
    if not isinstance(value, str | os.PathLike):
        text = f"a {type(value).__name__} is no path"
        raise Refused([Problem(key, f"{text}; write it to a file and give that")], "the call")
    return os.fspath(value)
