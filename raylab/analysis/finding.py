"""What one look at results found: a plain sentence, and the numbers that stand behind it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

Severity = Literal["note", "warning", "problem"]
Confidence = Literal["low", "medium", "high"]


@dataclass(frozen=True)
class Finding:
    """One answer to a part of "why does it stop here?"."""

    topic: str
    """data, leaks, labels, fit, curve, seeds, levers, axes, classes, images or next."""
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind the sentence, by name; JSON's own types."""
    severity: Severity = "note"
    """note: good to know; warning: costs accuracy or clarity; problem: makes results untrue."""
    confidence: Confidence = "medium"

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON's own types; NaN, which JSON does not have, becomes null."""
        return dict(plain(asdict(self)))


def points(share: float, digits: int = 1) -> str:
    """A share as percentage points: 0.0213 → `2.1`; an honest minus."""
    text = f"{100 * share:.{digits}f}"
    return text.replace("-", "−") if float(text) != 0 else f"{0:.{digits}f}"


def signed(share: float, digits: int = 1) -> str:
    """A difference of shares as signed percentage points: `+2.1`, `−0.4`."""
    text = points(share, digits)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def span(low: float, high: float, digits: int = 1) -> str:
    """An interval in percentage points: `[−0.1, 1.0]`."""
    return f"[{points(low, digits)}, {points(high, digits)}]"


def plain(value: Any) -> Any:
    """numpy's types as Python's own, floats to six digits."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
