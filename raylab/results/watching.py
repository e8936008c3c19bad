"""From a results directory to the snapshots of the sweep that runs in it, as they come."""

import time
from collections.abc import Callable, Iterator

from raylab.errors import CannotFinish, Problem, Refused
from raylab.results.directory import ResultsDirectory
from raylab.results.live import Snapshot

BEGIN_S = 30.0
"""A sweep that was just started loads its libraries first."""
DEAD_S = 120.0
"""So long without a word, several times what a living sweep leaves between two."""
LOCAL_S, REMOTE_S = 1.0, 10.0


def snapshots(
    results: ResultsDirectory, sleep: Callable[[float], object] = time.sleep
) -> Iterator[Snapshot]:
    """Every new snapshot until the sweep has ended. An end that comes first is that of an earlier
    run, and so is given BEGIN_S for another run to begin.

    Refused where no sweep was ever seen, CannotFinish where one stopped without a word.
    """
    pause_s = LOCAL_S if results.folder.is_local else REMOTE_S
    silent_s, last, was_alive = 0.0, None, False
    while True:
        snapshot = results.live()
        if snapshot is not None and snapshot != last:
            silent_s, last = 0.0, snapshot
            yield snapshot
            was_alive = was_alive or snapshot.state != "ended"
        if last is not None and last.state == "ended" and (was_alive or silent_s >= BEGIN_S):
            return
        if last is None and silent_s >= BEGIN_S:
            text = "no sweep was seen here; give the results directory of one that runs"
            raise Refused([Problem(results.location, text)], "the request", "nothing to watch")
        if last is not None and max(silent_s, age_s(last)) >= DEAD_S and silent_s > BEGIN_S:
            raise CannotFinish(
                f"the sweep in {results.location} stopped without a word, "
                f"{age_s(last):.0f} s ago; the same `raylab sweep` goes on from there"
            )
        sleep(pause_s)
        silent_s += pause_s


def age_s(snapshot: Snapshot) -> float:
    """Seconds since it was written, by this machine's clock."""
    return max(0.0, time.time() - snapshot.written_at)
