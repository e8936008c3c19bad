"""From a folder of class folders, local or remote, to its images; opens no file."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from raylab.errors import Problem, Refused
from raylab.images.found import SPLIT_NAMES, Found, clean_label, is_uri, printable
from raylab.storage import Folder

# .heic and .heif cannot be decoded here, but are listed as such, not passed over in silence.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
)
JUNK_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "lost+found"})


def find_in_folder(location: str) -> list[Found]:
    """Images below `location`: class/…/file, or train/class/…/file where all folders are splits.

    A class is a folder directly below the root (or split); deeper folders belong to it. Images
    outside a class folder are not found. Refused where a folder that is no split stands among
    splits: they would be taken for classes.
    """
    names = sorted(_remote_names(location) if is_uri(location) else _local_names(location))
    with_splits = _are_splits({PurePosixPath(name).parts[0] for name in names if "/" in name})
    if not with_splits and (strangers := _strangers_among_splits(names)):
        text = (
            f"{', '.join(strangers)}: no folder of a split, but it stands among some; name it one "
            f"of {', '.join(SPLIT_NAMES)}, or take it away"
        )
        raise Refused([Problem(location, text)], location)
    depth = 2 if with_splits else 1  # how many folders stand above a class's files
    found = []
    for name in names:
        parts = name.split("/")
        if len(parts) <= depth:
            continue
        found.append(
            Found(
                path=printable(name),
                label=clean_label(parts[depth - 1]),
                file=_file(location, name),
                given_split=SPLIT_NAMES[parts[0].lower()] if with_splits else None,
            )
        )
    return found


def images_below(location: str) -> list[str]:
    """The files of all images below a folder, at any depth, in the order of their names."""
    names = sorted(_remote_names(location) if is_uri(location) else _local_names(location))
    return [_file(location, name) for name in names]


def hint_for(location: str) -> str:
    """Why a folder in which fewer than two classes were found may be the wrong one."""
    names = list(_remote_names(location) if is_uri(location) else _local_names(location))
    if any("/" not in name for name in names):
        return "; images lie directly in it, where a folder per class is expected"
    tops = {name.split("/")[0] for name in names}
    deeper = {name.split("/")[1] for name in names if name.count("/") >= 2}
    if len(tops) == 1 and len(deeper) >= 2:
        return f"; did you mean {location.rstrip('/')}/{tops.pop()}?"
    return ""


def is_image_name(name: str) -> bool:
    """By suffix only: whether the content is an image is the decoder's to say."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_junk(part: str) -> bool:
    """Hidden files and what Windows and macOS leave behind."""
    return part.startswith(".") or part.lower() in JUNK_NAMES


def _file(location: str, name: str) -> str:
    return Folder(location).path_of(name) if is_uri(location) else f"{location.rstrip('/')}/{name}"


def _are_splits(folders: Iterable[str]) -> bool:
    names = [SPLIT_NAMES.get(folder.lower()) for folder in folders]
    return bool(names) and "train" in names and None not in names


def _strangers_among_splits(names: Iterable[str]) -> list[str]:
    """Top folders that are no split, where `train` and another split hold class folders."""
    tops = {name.split("/")[0] for name in names if name.count("/") >= 2}
    splits = {SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
    if "train" not in splits or len(splits) < 2:
        return []
    return sorted(printable(top) for top in tops if top.lower() not in SPLIT_NAMES)


def _remote_names(location: str) -> Iterator[str]:
    for name in Folder(location).names():
        if is_image_name(name) and not any(is_junk(part) for part in name.split("/")):
            yield name


def _local_names(location: str) -> Iterator[str]:
    yield from _walk(Path(location), "", ())


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Image names below `folder`, through symbolic links but never round in circles.

    `above` holds (device, inode) of the folders on the way down.
    """
    state = folder.stat()
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_junk(entry.name):
                continue
            if _is_folder(entry):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
            elif is_image_name(entry.name):
                yield prefix + entry.name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """A link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
