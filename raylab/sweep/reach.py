"""What of a sweep lies on one machine only, asked before another machine is to run it."""

from collections.abc import Iterator
from typing import Any

from raylab.config.sweep import SweepConfig
from raylab.config.weights import PACKAGE
from raylab.errors import Problem
from raylab.images.toy import is_toy
from raylab.storage import Folder


def out_of_reach(sweep: SweepConfig) -> Iterator[Problem]:
    """Images and weights files of this machine, which a cluster elsewhere does not see."""
    if not is_toy(sweep.data) and Folder(sweep.data).is_local:
        text = (
            f"{sweep.data} is on this machine, which the cluster does not see; copy it to storage "
            "that both reach (aws s3 cp --recursive …) and give --data s3://…"
        )
        yield Problem("data", text)
    axes: list[dict[str, Any]] = [dict(sweep.axes), *map(dict, sweep.zip)]
    weights = [sweep.trial.get("pretrained")]
    weights += [value for axis in axes for value in _values(axis.get("pretrained"))]
    for given in weights:
        if isinstance(given, str) and not given.startswith(PACKAGE):
            text = f"the weights file {given} is on this machine, which the cluster does not see"
            yield Problem("pretrained", text)


def _values(axis: Any) -> tuple[Any, ...]:
    return axis if isinstance(axis, tuple) else ()
