"""From the names of image files to the pattern that probably tells persons (or clips) apart.

Pure: it reads names and labels, no image. A pattern is offered only where its groups behave like
persons: many of them, several images each, and shown under more than one label.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

PATTERNS = {
    "name of a Radboud face (angle_PERSON_…)": r"(?:^|/)Rafd\d{3}_(\d{2})_[^/]*$",
    "name of a KDEF face (session, PERSON, …)": r"(?:^|/)[AB]([FM]\d{2})[A-Z]{2,4}[^/]*$",
    "letters and number that begin the name": r"(?:^|/)([A-Za-z]{1,8}[-_]?\d{1,5})[-_. ][^/]*$",
    "padded number that begins the name": r"(?:^|/)(\d{2,5})[-_ ][^/]*$",
    "capitals that begin the name": r"(?:^|/)([A-Z]{2,3})[-_. ][^/]*$",
    "name before the last number": r"(?:^|/)([A-Za-z.'-]+(?:_[A-Za-z.'-]+)+)_\d{1,4}\.\w+$",
    "folder": r"/([A-Za-z]{0,8}[-_]?\d{1,5})/[^/]*$",
}
"""What it is → regex whose first group names the person; tried in this order."""

MIN_PEOPLE = 8  # fewer groups are camera angles, sessions, splits
MIN_MATCHING_FRAC = 0.95
MIN_SHARING_FRAC = 0.8  # of images that share their person with another image
MAX_PERSON_FRAC = 0.25
MIN_MIXED_FRAC = 0.3  # of persons with several images: shown under more than one label


@dataclass(frozen=True)
class People:
    """The offered `pattern`, what it goes by, and each image's person (None: not matched)."""

    pattern: str
    what: str
    persons: tuple[str | None, ...]

    @property
    def num_people(self) -> int:
        return len({person for person in self.persons if person is not None})


def find_people(paths: Sequence[str], labels: Sequence[str]) -> People | None:
    """The first pattern whose groups look like persons; None where none does."""
    for what, pattern in PATTERNS.items():
        persons = persons_of(paths, pattern)
        if _look_like_people(persons, labels) and _is_padded(persons):
            return People(pattern, what, persons)
    return None


def persons_of(paths: Sequence[str], pattern: str) -> tuple[str | None, ...]:
    """What the pattern's first group (without one: the whole match) finds in each path."""
    search = re.compile(pattern).search
    found = (search(path) for path in paths)
    return tuple(match and match[min(1, match.re.groups)] for match in found)


def _look_like_people(persons: Sequence[str | None], labels: Sequence[str]) -> bool:
    shown: dict[str, set[str]] = defaultdict(set)
    counts: Counter[str] = Counter()
    for person, label in zip(persons, labels, strict=True):
        if person is not None:
            shown[person].add(label)
            counts[person] += 1
    if len(counts) < MIN_PEOPLE or counts.total() < MIN_MATCHING_FRAC * len(persons):
        return False
    several = [person for person, count in counts.items() if count > 1]
    sharing = sum(counts[person] for person in several)
    mixed = sum(len(shown[person]) > 1 for person in several)
    return (
        sharing >= MIN_SHARING_FRAC * counts.total()
        and max(counts.values()) <= MAX_PERSON_FRAC * counts.total()
        and mixed >= MIN_MIXED_FRAC * len(several)
    )


def _is_padded(persons: Sequence[str | None]) -> bool:
    """Bare numbers count as persons only at one width: 001, 002; ages (UTKFace) are not padded."""
    names = {person for person in persons if person is not None}
    if not all(name.isdigit() for name in names):
        return True
    return len({len(name) for name in names}) == 1 and any(name[0] == "0" for name in names)
