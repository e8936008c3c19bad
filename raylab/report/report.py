"""From results directories to their report, and to the file that keeps it."""

from collections.abc import Sequence
from typing import Literal

from raylab.report.markdown import markdown
from raylab.report.material import read_parts
from raylab.report.page import page
from raylab.results.directory import ResultsDirectory
from raylab.storage import file_at

Format = Literal["html", "markdown"]


def report(locations: Sequence[str], format: Format = "html") -> str:
    """The report on these results directories or URIs as text, no newline at its end.

    Trials that learned from different states of the data are shown apart, never ranked together.
    Refused if one of the locations holds no trial that has ended.
    """
    parts = read_parts(locations)
    return markdown(parts) if format == "markdown" else page(parts)


def keep(text: str, locations: Sequence[str], file: str | None = None) -> str:
    """Writes a report; the path or URI where it is.

    `file`: its path or URI; None = report.html of the results, comparison.html of the first of
    several. Refused where no file can be, CannotWrite where the storage takes nothing.
    """
    content = f"{text}\n".encode()
    if file is None:
        return ResultsDirectory(locations[0]).write_report(content, of_several=len(locations) > 1)
    folder, name = file_at(file)
    folder.write_bytes(name, content)
    return folder.path_of(name)
