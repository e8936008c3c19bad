"""Image-classification experiments fanned out over Ray, gathered into one Parquet leaderboard.

For notebooks: `raylab.sweep(grid)`, `raylab.leaderboard(results)`, `raylab.load_model(results)`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "leaderboard": "raylab.api.boards",
    "load_model": "raylab.api.models",
}


def __getattr__(name: str) -> Any:
    """What notebooks use, loaded when it is first asked for: `import raylab` itself is light."""
    if name == "sweep":
        return import_module("raylab.sweep")  # a module that can be called
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'raylab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "sweep"])
