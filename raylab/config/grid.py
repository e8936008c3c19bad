"""From a grid file and command-line options to a checked SweepConfig, or all that is wrong."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylab.config import overrides as options
from raylab.config.checks import contradictions
from raylab.config.choices import did_you_mean
from raylab.config.fields import FIELD_KEYS
from raylab.config.files import located
from raylab.config.findings import Findings
from raylab.config.marked import Marked, parse
from raylab.config.sections import read_sections
from raylab.config.sweep import SweepConfig
from raylab.errors import Problem

MAX_BYTES = 4 * 2**20
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def read_grid(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    data: str | None = None,
    base: Path | None = None,
    is_resolved: bool = False,
) -> SweepConfig:
    """Read and check the whole grid; raises Refused with every problem found.

    `overrides` are `key=value` texts; `data` replaces the grid's and is relative to where the
    command runs, while a path in the file is relative to `base`, which is the file's folder unless
    given. `is_resolved`: it is the grid.yaml of results, whose trials ran (see `contradictions`).
    """
    findings = Findings(str(path))
    marked = _parsed(path, findings)
    grid: dict[str, Any] = marked.value
    findings.lines = marked.lines
    places, problems = options.apply(grid, overrides, tuple(SweepConfig.model_fields), FIELD_KEYS)
    findings.places.update(places)
    for place, text in problems:
        findings.problems.append(Problem(place, text))
    _check_keys(grid, findings)
    base = base or path.parent
    located = _locate(grid, data, base, findings)
    given = {"name": path.stem, **grid, "data": located}
    sweep = read_sections(given, None if is_resolved else base, findings)
    contradictions(sweep, findings, is_resolved=is_resolved)
    findings.refuse_if_any()
    return sweep


def _parsed(path: Path, findings: Findings) -> Marked:
    """The file's content; refuses at once what cannot be read as a mapping."""
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES // 2**20} MiB; this is no grid file")
        marked = parse(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        findings.problems.append(Problem(str(path), f"not UTF-8 text (byte {error.start})"))
    except OSError as error:
        findings.problems.append(Problem(str(path), _reason(error, path)))
    else:
        for line, text in marked.errors:
            findings.problems.append(Problem(f"{path}:{line}", text))
        if not marked.errors and marked.value is None:
            findings.problems.append(Problem(str(path), "the file is empty; a grid needs data"))
        elif not marked.errors and not isinstance(marked.value, dict):
            text = "the grid is not a mapping; write key: value lines"
            findings.problems.append(Problem(f"{path}:1", text))
    findings.refuse_if_any()
    return marked


def _reason(error: OSError, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        near = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        return f"no such file{did_you_mean(path.name, near)}"
    return error.strerror or str(error)


def _check_keys(grid: dict[str, Any], findings: Findings) -> None:
    allowed = list(SweepConfig.model_fields)
    for key in [key for key in grid if key not in allowed]:
        hint = did_you_mean(key, allowed)
        if key in FIELD_KEYS:
            hint = f"; a trial field stands under trial ({key}: … there) or axes"
        findings.add((key,), f"no such key{hint or '; allowed: ' + ', '.join(allowed)}")
        del grid[key]
    for key in [key for key, value in grid.items() if value is None]:
        del grid[key]  # `zip:` with nothing behind it is as good as left out


def _locate(grid: dict[str, Any], data: str | None, base: Path, findings: Findings) -> str:
    """The source as `toy`, URI or absolute path; a path that is not there is a problem."""
    given = grid.get("data")
    if data is not None:
        given, base = data, Path.cwd()
        findings.places[("data",)] = "--data"
    if given is None:
        findings.add(("data",), "missing; give toy, a folder, a manifest, or a URI")
        return "toy"
    if not isinstance(given, str) or not given.strip():
        findings.add(("data",), f"{given!r} is not text; give toy, a folder, a manifest, or a URI")
        return "toy"
    if given == "toy" or given.startswith("toy:") or _URI.match(given):
        return given
    place = located(base, given)
    if not os.path.exists(place):
        hint = did_you_mean(given, ["toy"])
        findings.add(("data",), f"{given!r} does not exist (looked at {place}){hint}")
    return place
