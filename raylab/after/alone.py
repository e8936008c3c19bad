"""One trial of earlier results as a sweep of its own, in a results directory of its own."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.events.progress import make_view
from raylab.images.source import Source
from raylab.results.directory import ResultsDirectory
from raylab.sweep.cluster import connected
from raylab.sweep.lock import held
from raylab.sweep.plan import Plan
from raylab.sweep.runner import Options, Sweeping


def only(sweep: SweepConfig, config: TrialConfig, *, keep: int = 0) -> SweepConfig:
    """The sweep with this one trial, on the same resources, however it once came to it."""
    # Said aloud, so that planning does not choose a filter for a trial from before there was one.
    said = config.model_dump(mode="json", exclude={"seed"}) | {"interpolation": config.filter}
    return SweepConfig(
        name=sweep.name,
        data=sweep.data,
        trial=said,
        seeds=(config.seed,),
        metric=sweep.metric,
        resources=sweep.resources,
        keep=keep,
    )


@contextmanager
def alone(sweep: SweepConfig, source: Source, options: Options) -> Iterator[Sweeping]:
    """The sweep, ready to run: its results are locked and its Ray is connected for so long."""
    place = ResultsDirectory(options.results)
    with (
        closing(make_view(options.quiet, sweep.metric, ())) as view,
        held(place) as hold,
        connected(options.address) as capacity,
    ):
        yield Sweeping(Plan(sweep, source), place, options, view, capacity, hold)
