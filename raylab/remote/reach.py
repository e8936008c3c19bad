"""What of a sweep lies on one machine only, asked before another machine is to run it."""

from collections.abc import Iterator
from typing import Any

from raylab.config.files import FILES, PACKAGE, TRIAL
from raylab.config.sweep import SweepConfig
from raylab.errors import Problem
from raylab.images.toy import is_toy
from raylab.storage import Folder


def out_of_reach(sweep: SweepConfig) -> Iterator[Problem]:
    """Images and files of this machine that a sweep names, which a cluster elsewhere cannot see."""
    if not is_toy(sweep.data) and Folder(sweep.data).is_local:
        text = (
            f"{sweep.data} is on this machine, which the cluster does not see; copy it to storage "
            "that both reach (aws s3 cp --recursive …) and give --data s3://…"
        )
        yield Problem("data", text)
    start = sweep.search.warm_start
    if start is not None and Folder(start).is_local:
        text = f"the results {start} are on this machine, which the cluster does not see"
        yield Problem("search", text)
    axes: list[dict[str, Any]] = [dict(sweep.axes), *map(dict, sweep.zip)]
    for field, kind in FILES.items():
        named = [changes.get(field) for changes in (sweep.trial, *sweep.levers)]
        named += [value for axis in axes for value in _values(axis.get(field))]
        for given in named:
            if isinstance(given, str) and given and not given.startswith((PACKAGE, TRIAL)):
                text = f"the {kind} file {given} is on this machine, which the cluster does not see"
                yield Problem(field, text)


def _values(axis: Any) -> tuple[Any, ...]:
    return axis if isinstance(axis, tuple) else ()
