"""What can go wrong for a user, as one small tree; each error is one text that says what to do.

RaylabError
├── Refused        the request itself is wrong (grid, options, data): exit 2, nothing was started
└── CannotFinish   the request was fine, but the work could not be completed: exit 1
    └── CannotWrite    the storage is full, read-only, forbidden or broken
"""

from collections.abc import Iterable
from dataclasses import dataclass


class RaylabError(Exception):
    """Base of everything raylab raises on purpose."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, and what was given, what is allowed, what to do."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}  {self.text}"


class Refused(RaylabError):
    """The request is refused as a whole, with every problem that was found in it.

    `subject` is what was checked (a grid file, a data source), `consequence` what did not happen.
    """

    exit_code = 2

    def __init__(
        self,
        problems: Iterable[Problem],
        subject: str,
        consequence: str = "no trial was started",
    ) -> None:
        self.problems = tuple(problems)
        self.subject = subject
        self.consequence = consequence
        super().__init__(str(self))

    def placed(self, path: str, place: str, subject: str) -> "Refused":
        """The same, told at `place` where it was at `path`, which nobody knows."""
        problems = [Problem(p.place.replace(path, place), p.text) for p in self.problems]
        return Refused(problems, subject, self.consequence)

    def __str__(self) -> str:
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = [str(problem) for problem in self.problems]
        return "\n".join([*lines, f"{count} {noun} in {self.subject}; {self.consequence}."])

    def __reduce__(self) -> tuple[type["Refused"], tuple[tuple[Problem, ...], str, str]]:
        return type(self), (self.problems, self.subject, self.consequence)


class CannotFinish(RaylabError):
    """The work began and cannot be completed; the text says why and what to do."""


class CannotWrite(CannotFinish):
    """A file could not be written; those that stand are whole, and the same command goes on."""
