"""Which weights of a results directory stay: the best few, and those that trials begin with; and
which states.
"""

from collections.abc import Callable, Collection

from raylab.config.files import parent_of
from raylab.config.sweep import metric_mode
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record


class Shelf:
    """The checkpoints of complete trials on one data set (other images or labels are no rivals),
    until `clear` takes away what nothing asks for.

    There stay the best `keep`, what each of these began with (so that `final` and `rerun` can begin
    so again), and the trials that `needed` names, with whose weights others may still begin.
    """

    def __init__(
        self,
        results: ResultsDirectory,
        keep: int,
        metric: str,
        needed: Callable[[], Collection[str]],
    ) -> None:
        self.results, self.keep, self.metric, self.needed = results, keep, metric, needed
        self.held: dict[str, tuple[float, str]] = {}
        """By trial_id what sorts it, the best first, and its record's parent."""

    def put(self, record: Record) -> None:
        """One more trial that left its weights; those of one that came to nothing go at once."""
        outcome = record.outcome(self.metric)
        if record.status != "complete" or outcome is None:
            self.results.delete_checkpoint(record.trial_id)
            return
        sign = -1 if metric_mode(self.metric) == "max" else 1
        parent = parent_of(str(record.config["pretrained"]))
        self.held[record.trial_id] = sign * outcome, parent or ""

    def clear(self) -> None:
        """Delete what no longer has to stay."""
        ranked = sorted(self.held, key=lambda identity: (self.held[identity][0], identity))
        best = ranked[: self.keep]
        staying = {*best, *(self.held[identity][1] for identity in best), *self.needed()}
        for identity in ranked:
            if identity not in staying:
                self.results.delete_checkpoint(identity)
                del self.held[identity]


def clear_states(results: ResultsDirectory, ended: Collection[str] | None) -> frozenset[str]:
    """Delete the states from which no trial goes on, as that of a trial that has `ended` when the
    sweep was killed; None where all begin anew. The trials whose states stay. Only for the one
    process that may write in the results.
    """
    results.delete_unfinished_states()
    known = results.state_ids()
    gone = known if ended is None else known.intersection(ended)
    for identity in gone:
        results.delete_state(identity)
    return known - gone
