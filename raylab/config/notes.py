"""What a grid asks for in vain, or more than it means: plan and sweep say so, and it runs."""

from collections.abc import Iterator
from itertools import product

from raylab.config.expand import count_draws, idle_exclusions
from raylab.config.possible import possible, possible_values
from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig

# BatchNorm's statistics of fewer images are noise (Wu and He 2018).
MIN_NORM_IMAGES = 16


def notes(sweep: SweepConfig) -> Iterator[str]:
    """A line each."""
    for place in idle_exclusions(sweep):
        yield f"exclude[{place}] leaves nothing out: no trial agrees with all of it"
    wanted = sweep.search.num_trials
    if sweep.search.kind == "random" and wanted and (found := count_draws(sweep)) < wanted:
        yield f"num_trials {wanted}: only {found} different configs were found in these axes"
    yield from _of_workers(sweep)
    yield from _of_fields(sweep)


def _of_workers(sweep: SweepConfig) -> Iterator[str]:
    workers, gpus = sweep.resources.workers, sweep.resources.gpus
    if gpus != "auto" and gpus > workers:
        yield f"gpus {gpus:g}: a worker trains on one GPU, the others idle; give workers {gpus:g}"
    usual = int(sweep.trial.get("batch_size", TrialConfig.model_fields["batch_size"].default))
    pulled = [lever["batch_size"] for lever in sweep.levers if "batch_size" in lever]
    each = min([*possible_values(sweep, "batch_size", usual), *pulled]) // workers
    if workers > 1 and each < MIN_NORM_IMAGES and False in possible(sweep, "freeze_bn"):
        text = "a BatchNorm learns from those alone; raise batch_size or lower workers"
        yield f"workers {workers}: {each} images of a batch each; {text}"


def _of_fields(sweep: SweepConfig) -> Iterator[str]:
    alone = sweep.model_copy(update={"levers": ()})  # one at a time
    if "balanced" in possible(alone, "sampler") and possible(alone, "class_weights") != {"none"}:
        text = "both make up for classes of few images, together twice; take one of them out"
        yield f"sampler balanced and class_weights: {text}"
    fracs = possible(alone, "swa_frac") - {0.0}
    warmups = possible(alone, "warmup_epochs") if fracs else set()
    for epochs, warmup, frac in product(*map(sorted, (possible(alone, "epochs"), warmups, fracs))):
        averaged = TrialConfig.model_construct(epochs=epochs, swa_frac=frac).num_swa_epochs
        if warmup > epochs - averaged:
            text = f"the last {averaged} of {epochs} epochs, over which it averages, hold the lr"
            yield f"warmup_epochs {warmup:g} and swa_frac {frac:g}: {text} below its peak"
            return
