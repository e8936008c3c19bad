"""A grid, as a file or as a mapping → a sweep that was run, and what came out of it."""

import os
import tempfile
from collections.abc import Iterator, Mapping
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
    data = None if data is None else os.fspath(data)
    settings = [f"{key}={as_yaml(value)}" for key, value in overrides.items()]
    if not isinstance(grid, Mapping):
        return read_grid(Path(grid), overrides=settings, data=data)
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


def plain(value: Any) -> Any:
    """What notebooks hold (numbers and arrays of numpy, paths, ranges) as YAML has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    return value


def as_yaml(value: Any) -> str:
    """The value on one line, as --set reads it."""
    return yaml.safe_dump([plain(value)], default_flow_style=True, width=1_000_000).strip()[1:-1]
