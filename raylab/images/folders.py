"""From a folder of class folders, local or remote, to its images; opens no file."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from raylab.errors import Problem, Refused
from raylab.images.found import SPLIT_NAMES, Found, clean_label, is_uri, printable, some_of
from raylab.storage import Folder

# .heic and .heif cannot be decoded here, but are listed as such, not passed over in silence.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
)
JUNK_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "lost+found"})
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(set|data)?(?![a-z])", re.IGNORECASE)
"""In the names of folders that hold the training images: train, Training, train_set."""


def find_in_folder(location: str) -> tuple[list[Found], list[str]]:
    """Images below `location`: class/…/file, or train/class/…/file where all folders are splits;
    and remarks on what lies there and is none of them.

    A class is a folder directly below the root (or split); deeper folders belong to it. Images
    outside a class folder are not found. Refused where a folder that is no split stands among
    splits: they would be taken for classes.
    """
    listed = sorted(_names(location))
    names = list(filter(is_image_name, listed))
    with_splits = _are_splits({name.partition("/")[0] for name in names if "/" in name})
    if not with_splits:
        _refuse_strangers_among_splits(location, names)
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
    return found, _remarks(listed, depth)


def images_below(location: str) -> list[str]:
    """The files of all images below a folder, at any depth, in the order of their names."""
    names = sorted(filter(is_image_name, _names(location)))
    return [_file(location, name) for name in names]


def hint_for(location: str) -> str:
    """Why a folder in which fewer than two classes were found may be the wrong one."""
    names = list(filter(is_image_name, _names(location)))
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


def _refuse_strangers_among_splits(location: str, names: Sequence[str]) -> None:
    """Refused where a top folder holds folders as `train` does, and beside it stands no split."""
    tops = {name.split("/")[0] for name in names if "/" in name}
    folders = {tuple(name.split("/")[:2]) for name in names if name.count("/") >= 2}
    of_splits = sorted(f for f in folders if f[0].lower() in SPLIT_NAMES or _TRAIN.search(f[0]))
    # train_set/happy beside test_set/happy; train_station/indoor is a class.
    times = Counter(name for _, name in folders)
    train = [(top, name) for top, name in of_splits if _is_train(top, times[name])]
    if not train or len(of_splits) < 2 or len(tops) < 2:
        return
    strangers = sorted(printable(top) for top in tops if top.lower() not in SPLIT_NAMES)
    text = (
        f"{', '.join(strangers)}: no folder of a split, but {printable('/'.join(train[0]))} looks "
        f"like a class in one; name each one of {', '.join(SPLIT_NAMES)}, or take it away"
    )
    raise Refused([Problem(location, text)], location)


def _is_train(top: str, num_alike: int) -> bool:
    """`num_alike`: top folders that hold one of the same name."""
    return bool(_TRAIN.fullmatch(top) or (_TRAIN.search(top) and num_alike > 1))


def _remarks(listed: Sequence[str], depth: int) -> list[str]:
    """What lies there and is not taken; `listed` as `_names` has it."""
    names = [name for name in listed if is_image_name(name)]
    others = [name for name in listed if not is_image_name(name)]
    remarks = []
    if outside := [name for name in names if name.count("/") < depth]:
        remarks.append(
            f"{len(outside):,} of {len(names):,} images lie in no class folder and are not used "
            f"(first: {printable(outside[0])})"
        )
    tops = {"/".join(name.split("/")[:-1][:depth]) for name in others} - {""}
    taken = {"/".join(name.split("/")[:-1][:k]) for name in names for k in range(1, depth + 1)}
    if empty := sorted(map(printable, tops - taken)):
        remarks.append(f"no image in the folders {some_of(empty)}")
    files = [name for name in others if name.count("/") >= depth and not name.endswith("/")]
    if suffixes := Counter(os.path.splitext(name)[1].lower() for name in files).most_common():
        kinds = [f"{printable(suffix) or 'no suffix'} {count:,}" for suffix, count in suffixes]
        remarks.append(f"{len(files):,} files are no images by their names: {some_of(kinds)}")
    return remarks


def _names(location: str) -> Iterator[str]:
    """Every file below `location` but junk; on this machine every folder too, as `name/`."""
    if not is_uri(location):
        yield from _walk(Path(location), "", ())
        return
    for name in Folder(location).names():
        if not any(is_junk(part) for part in name.split("/")):
            yield name


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Names below `folder`, through symbolic links but never round in circles.

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
                yield f"{prefix}{entry.name}/"
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
            else:
                yield prefix + entry.name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """A link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
