"""A whole sweep as one frozen value: which trials, how they are searched, ranked, paid for."""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr

from raylab.config.trial import Value

MAX_TRIALS = 1_000_000
"""More than this in one sweep is taken for an accident, unless `budget.trials` caps it."""

LoggerName = Literal["tensorboard", "mlflow", "wandb"]

EPOCH_METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1")
"""Known after every epoch: these a scheduler can stop by."""
METRICS = (*EPOCH_METRICS, "seconds", "train_images_per_s")
"""What can rank trials."""


def metric_mode(name: str) -> Literal["max", "min"]:
    """Whether more or less of the metric is better: losses and seconds are minimised."""
    return "min" if name.endswith("_loss") or name == "seconds" else "max"


class Distribution(Value):
    """A range that random and Optuna search draw from; named and bounded as in Ray Tune."""

    kind: Literal["uniform", "loguniform", "randint"]
    low: float
    high: float
    """Excluded for `randint`."""

    def as_grid(self) -> dict[str, Any]:
        """As a grid file writes it."""
        ends = [self.low, self.high]
        return {self.kind: [int(end) for end in ends] if self.kind == "randint" else ends}


SEARCH_OPTIONS: dict[str, tuple[str, ...]] = {
    "grid": (),
    "random": ("num_trials",),
    "optuna": ("num_trials", "warm_start"),
    "pbt": ("population", "generations", "quantile", "resample_probability"),
}
"""By kind of search, the options that it reads."""


class Search(Value):
    """Which configs are tried: all of the grid, `num_trials` drawn ones, or a population of drawn
    ones that changes from generation to generation.

    `pbt` (population based training, Jaderberg et al. 2017): a generation is `population` trials of
    `trial.epochs` each. When all of them have ended, the best go on from their own weights, and the
    others from the weights of one of the best, with its config moved a little (see `population`).
    """

    kind: Literal["grid", "random", "optuna", "pbt"] = "grid"
    num_trials: Annotated[StrictInt, Field(ge=1)] | None = None
    """Of `random` and `optuna`. Each drawn config is run with every seed and fold that `exclude`
    does not leave out. `random` draws no config twice, and ends early where there are no more."""
    warm_start: StrictStr | None = None
    """Of `optuna`: the results of an earlier sweep, an absolute path or a URI; what its configs
    came to is known before the first draw, as far as these axes allow them."""
    population: Annotated[StrictInt, Field(ge=4, le=10_000)] | None = None
    """Of `pbt`: trials of a generation. The next one begins when the last of them has ended, so
    that a multiple of the slots leaves none idle."""
    generations: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    """Of `pbt`. A search that has ended cannot be given more of them: what its last generation came
    to is kept, its weights are not."""
    quantile: Annotated[StrictFloat, Field(gt=0, le=0.5)] = 0.25
    """Of `pbt`: this fraction of the population, at least one trial, is replaced by copies of as
    many of the best."""
    resample_probability: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.25
    """Of `pbt`: how often a copy's value is drawn anew from its axis instead of moved a step."""

    def as_grid(self) -> Any:
        """As a grid file writes it."""
        options = self.model_dump(include=set(SEARCH_OPTIONS[self.kind]), exclude_none=True)
        return {self.kind: options} if options else self.kind


class Scheduler(Value):
    """Whether weak trials are stopped early, by successive halving (ASHA, Li et al. 2020)."""

    kind: Literal["none", "asha"] = "none"
    grace_epochs: Annotated[StrictInt, Field(ge=1)] = 2
    """Epochs every trial may run."""
    reduction_factor: Annotated[StrictInt, Field(ge=2)] = 3
    """At each rung the best 1/reduction_factor go on."""

    def rungs(self, longest: int) -> list[int]:
        """The epochs, up to the `longest`, after which trials are compared."""
        found, rung = [], self.grace_epochs
        while self.kind == "asha" and rung <= longest:
            found.append(rung)
            rung *= self.reduction_factor
        return found


class Budget(Value):
    """When to stop starting trials, whichever comes first; None = no bound. Each run of the command
    has its hours and dollars anew.
    """

    hours: Annotated[StrictFloat, Field(gt=0)] | None = None
    trials: Annotated[StrictInt, Field(ge=1)] | None = None
    usd: Annotated[StrictFloat, Field(gt=0)] | None = None
    """Needs `resources.usd_per_hour`."""


class Resources(Value):
    """What one trial gets; it is not part of a trial's identity."""

    workers: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    """The only one that touches what is learned: a batch is divided among the workers, BatchNorm
    and mixup know a worker's own part, and each worker draws its own order and augmentation. A
    trial that ran with another number of them is reused all the same; `num_workers` tells."""
    cpus: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    """Per worker."""
    gpus: Literal["auto"] | Annotated[StrictFloat, Field(ge=0, le=1024)] = "auto"
    """Per trial; a fraction shares one GPU between trials; `auto` = measured packing."""
    image_memory_gb: Literal["auto"] | Annotated[StrictFloat, Field(ge=0)] = "auto"
    """Memory of a node for prepared images, in 10^9 bytes; a variant that does not fit is read
    from a file on its disk. `auto` = 0.6 of Ray's object store."""
    trial_timeout_minutes: Annotated[StrictFloat, Field(gt=0)] | None = None
    """A trial of which no epoch ends for so long has failed, and its process is ended; None = wait
    for ever. Give it several times what the slowest epoch takes, with its first start."""
    max_concurrent: Annotated[StrictInt, Field(ge=1)] | None = None
    """Trials side by side at most: leaves room on a cluster for others. None = all that fit."""
    usd_per_hour: Annotated[StrictFloat, Field(ge=0)] | None = None
    """Price of all the machines together, for `budget.usd`."""


class SweepConfig(Value):
    """A grid file that was read, checked, and is ready to expand."""

    name: StrictStr
    data: StrictStr
    """`toy`, an absolute path, or a URI."""
    trial: dict[str, Any] = Field(default_factory=dict)
    """The fields every trial starts from, as given (nested, presets unresolved)."""
    axes: dict[str, tuple[Any, ...] | Distribution] = Field(default_factory=dict)
    """Per dotted trial field: its values as given, or a distribution; crossed."""
    zip: tuple[dict[str, tuple[Any, ...]], ...] = ()
    """Groups of axes that move together; the groups are crossed with the axes and each other."""
    levers: tuple[dict[str, Any], ...] = ()
    """Changes to the config by dotted field, one at a time: every point of the axes is run without
    any of them, and with each alone."""
    exclude: tuple[dict[str, Any], ...] = ()
    """Partial configs by dotted name; a trial that agrees with all of one is left out."""
    seeds: tuple[int, ...] = (0,)
    search: Search = Search()
    scheduler: Scheduler = Scheduler()
    metric: str = "val_accuracy"
    budget: Budget = Budget()
    resources: Resources = Resources()
    keep: Annotated[StrictInt, Field(ge=0)] = 3
    """Checkpoints kept: the best few of the whole sweep, and what each of them began with, where
    that is another trial's weights (see `pretrained`). Those of data that has changed since stay:
    they are no rivals."""
    loggers: tuple[LoggerName, ...] = ()
    """Trackers that are told of the sweep beside its own results."""

    @property
    def mode(self) -> Literal["max", "min"]:
        """Which way `metric` is better."""
        return metric_mode(self.metric)

    def as_grid(self) -> dict[str, Any]:
        """The sweep as a grid file's content: written and read again, it is this sweep."""
        axes = {
            key: axis.as_grid() if isinstance(axis, Distribution) else list(axis)
            for key, axis in self.axes.items()
        }
        scheduler: Any = "none"
        if self.scheduler.kind != "none":
            scheduler = {self.scheduler.kind: self.scheduler.model_dump(exclude={"kind"})}
        return {
            "name": self.name,
            "data": self.data,
            "trial": dict(self.trial),
            "axes": axes,
            "zip": [{key: list(values) for key, values in group.items()} for group in self.zip],
            "levers": [dict(lever) for lever in self.levers],
            "exclude": [dict(partial) for partial in self.exclude],
            "seeds": list(self.seeds),
            "search": self.search.as_grid(),
            "scheduler": scheduler,
            "metric": self.metric,
            "budget": self.budget.model_dump(exclude_none=True),
            "resources": self.resources.model_dump(exclude_none=True),
            "keep": self.keep,
            **({"loggers": list(self.loggers)} if self.loggers else {}),
        }
