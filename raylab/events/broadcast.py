"""A running sweep in its results directory, for those who watch from elsewhere.

The driver only counts. A thread writes, at most once in a while and only what is new, so that
neither a slow storage nor a fast sweep holds a trial up.
"""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from raylab.config.trial import TrialConfig
from raylab.errors import CannotWrite
from raylab.events.tally import Tally
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record

LOCAL_S, REMOTE_S = 1.0, 10.0
"""Between two writes, on this machine and behind a URI."""
BEAT_S = 20.0
"""A sweep of which nothing is new still says that it lives."""


class Broadcast:
    """A view that keeps the sweep's latest snapshot in live.json."""

    def __init__(
        self, results: ResultsDirectory, sweep: str, metric: str, fields: Sequence[str]
    ) -> None:
        self.results, self.tally = results, Tally(metric, fields, sweep)
        self.pause_s = LOCAL_S if results.folder.is_local else REMOTE_S
        self.lock = threading.Lock()
        self.is_new, self.is_over = False, threading.Event()
        self.thread = threading.Thread(target=self.run, name="raylab-broadcast", daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Write what is new until the sweep is over."""
        silent_s = BEAT_S
        while not self.is_over.is_set():
            if self.is_new or silent_s >= BEAT_S:
                self.write()
                silent_s = 0.0
            self.is_over.wait(self.pause_s)
            silent_s += self.pause_s
        self.write()

    def write(self) -> None:
        """The sweep as it stands; a storage that fails is the records' business, not ours."""
        with self.lock:
            snapshot, self.is_new = self.tally.snapshot(), False
        with contextlib.suppress(OSError, CannotWrite, ValueError):
            self.results.write_live(snapshot)

    def preparing(self, what: str, done: int, total: int) -> None:
        with self.lock:
            self.tally.preparing(what, done, total)
            self.is_new = True

    def planned(self, total: int, reused: Sequence[Record], slots: int, epochs: int) -> None:
        with self.lock:
            self.tally.planned(total, reused, slots, epochs)
            self.is_new = True

    def started(self, trial_id: str, config: TrialConfig) -> None:
        with self.lock:
            self.tally.started(trial_id, config)
            self.is_new = True

    def epoch(self, trial_id: str, row: dict[str, Any]) -> None:
        with self.lock:
            self.tally.epoch(trial_id, row)
            self.is_new = True

    def ended(self, record: Record) -> None:
        with self.lock:
            self.tally.ended(record)
            self.is_new = True

    def note(self, text: str) -> None:
        with self.lock:
            self.tally.note(text)
            self.is_new = True

    def close(self) -> None:
        """The last word, written before this returns."""
        with self.lock:
            self.tally.close()
        self.is_over.set()
        self.thread.join()
