"""Where problems are gathered while a grid is checked, each with its place."""

from collections.abc import Iterable
from typing import Any, NoReturn

from raylab.config.marked import Path
from raylab.errors import Problem, Refused


class Findings:
    """Problems of one grid, and where each of its values stands."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.lines: dict[Path, int] = {}
        self.places: dict[Path, str] = {}
        """Paths that the command line set, and how it is told."""
        self.problems: list[Problem] = []
        self.spoiled: set[str] = set()
        """Trial fields with a problem of their own: not worth checking against others."""

    def add(self, path: Path, text: str) -> None:
        """Note `text` about the value at `path`, once."""
        label = label_of(path)
        problem = Problem(self.place_of(path), f"{label}: {text}" if label else text)
        if problem not in self.problems:
            self.problems.append(problem)

    def add_below(self, path: Path, found: Iterable[tuple[tuple[str | int, ...], str]]) -> bool:
        """Note problems found inside the value at `path`; whether there were any."""
        any_found = False
        for below, text in found:
            self.add((*path, *below), text)
            any_found = True
        return any_found

    def place_of(self, path: Path) -> str:
        """`grids/aug.yaml:14`, or `--set axes.lr`: the nearest known place above the path."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
            if path[:length] in self.lines:
                return f"{self.subject}:{self.lines[path[:length]]}"
        return self.subject

    def refuse_if_any(self) -> None:
        """Raise Refused with everything noted so far, in the order of the file."""
        if self.problems:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise Refused(sorted(self.problems, key=self._order), self.subject)

    def _order(self, problem: Problem) -> tuple[Any, ...]:
        place, _, line = problem.place.rpartition(":")
        return (0, int(line), "") if place == self.subject and line.isdigit() else (1, 0, "")


def label_of(path: Path) -> str:
    """`axes.lr`, `zip[0].model`; the place in a list of values is told by the line."""
    steps = list(path)
    kept = 2 if steps and steps[0] in ("zip", "levers", "exclude") else 0
    while len(steps) > kept and isinstance(steps[-1], int):
        steps.pop()
    label = ""
    for step in steps:
        label += f"[{step}]" if isinstance(step, int) else f".{step}" if label else step
    if not label and path:
        label = str(path[0])
    return label
