"""Whether a run of a sweep may start one more trial, and what it says when it may not."""

import time
from dataclasses import dataclass, field

from raylab.config.sweep import SweepConfig


@dataclass(frozen=True, slots=True)
class Allowance:
    """The budget's hours and dollars, counted from now on."""

    sweep: SweepConfig
    begun_at: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> str | None:
        """The bound that was reached; trials that run are never cut off by it."""
        budget, rate = self.sweep.budget, self.sweep.resources.usd_per_hour
        hours = (time.monotonic() - self.begun_at) / 3600
        if budget.hours is not None and hours >= budget.hours:
            return f"budget.hours {budget.hours:g}"
        if budget.usd is not None and rate is not None and hours * rate >= budget.usd:
            return f"budget.usd {budget.usd:g}"
        return None

    def may_start(self) -> bool:
        """Whether there is something left."""
        return self.spent is None

    def advice(self, num_left: int, num_trials: int) -> str:
        """Why so many of the sweep's trials were not started, and what to do."""
        return (
            f"{self.spent} is spent: {num_left:,} of {num_trials:,} trials were not started; the "
            "same command goes on with as much again"
        )
