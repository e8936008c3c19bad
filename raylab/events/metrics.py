"""A running sweep as metrics of the Ray cluster, for its dashboard, Prometheus and Grafana."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ray.util.metrics import Gauge

from raylab.config.trial import TrialConfig
from raylab.events.tally import short_name
from raylab.results.record import Record


class MeteredView:
    """A view that keeps gauges. Ray writes `ray_` before their names.

    raylab_val_accuracy {sweep, trial}: after the latest epoch, 0..1.
    raylab_train_images_per_s {sweep}: of all running trials together.
    raylab_trials {sweep, state}: running, complete, pruned, failed.
    """

    def __init__(self, sweep: str, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self.names: dict[str, str] = {}
        self.speeds: dict[str, float] = {}
        self.states: Counter[str] = Counter()
        tags = {"sweep": sweep}
        accuracy = Gauge(
            "raylab_val_accuracy", "Validation accuracy after an epoch.", ("sweep", "trial")
        )
        speed = Gauge("raylab_train_images_per_s", "Of all running trials.", ("sweep",))
        trials = Gauge("raylab_trials", "Trials by state.", ("sweep", "state"))
        self.accuracy, self.speed, self.trials = (
            gauge.set_default_tags(tags) for gauge in (accuracy, speed, trials)
        )

    def preparing(self, what: str, done: int, total: int) -> None:
        """No gauge for it."""

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        self.states.update(record.status for record in reused)
        self.count()

    def started(self, trial_id: str, config: TrialConfig) -> None:
        self.names[trial_id] = short_name(config.flat(), self.fields)
        self.states["running"] += 1
        self.count()

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        self.accuracy.set(row["val_accuracy"], {"trial": self.names[trial_id]})
        self.speeds[trial_id] = row["train_images_per_s"]
        self.speed.set(sum(self.speeds.values()))
        self.count()  # Ray forgets a gauge that nobody sets again

    def ended(self, record: Record) -> None:
        self.names.pop(record.trial_id, None)
        self.speeds.pop(record.trial_id, None)
        self.speed.set(sum(self.speeds.values()))
        self.states["running"] -= 1
        self.states[record.status] += 1
        self.count()

    def note(self, text: str) -> None:
        """No gauge for it."""

    def close(self) -> None:
        """Ray forgets the gauges with the process."""

    def count(self) -> None:
        """Set the number of trials in every state that was seen."""
        for state, number in self.states.items():
            self.trials.set(number, {"state": state})
