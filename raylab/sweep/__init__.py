"""Many trials: one trial on Ray Train, all of them on Ray Tune, their resources, progress, records.

The coat of Ray over functions that work without it; everything in here may import everything else.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """`raylab.sweep(grid)` in a notebook, while `raylab.sweep` stays this package's name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`raylab.api.sweeps.sweep`."""
        return import_module("raylab.api.sweeps").sweep(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
