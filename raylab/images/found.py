"""From a file name or a manifest row to one found image: its label, and where its bytes are."""

import errno
import functools
import hashlib
import os
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from raylab.errors import CannotFinish
from raylab.images.boxes import Box
from raylab.storage import Folder

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "publictest": "val",  # Kaggle's names of the FER2013 parts
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}
"""What sources call their splits (lower case), and what raylab calls them."""

MAX_SHOWN_NAMES = 8
NOT_UTF8 = (
    "its name is not UTF-8; if it came in a Korean zip, unpack that anew with unzip -O cp949, or "
    "rename all with convmv -f cp949 -t utf8 -r --notest"
)

_LASTING = {
    *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
    *(errno.EINVAL, errno.EILSEQ, errno.ENXIO),
}


@dataclass(frozen=True, slots=True)
class Found:
    """One image of a source. Its bytes are in the file `file` or inline in `content`."""

    path: str
    """As shown to users: relative to the source."""
    label: str
    file: str | None = None
    """Local path or URI."""
    content: bytes | None = None
    """A whole encoded image, where the source is not made of files."""
    group: str | None = None
    given_split: str | None = None
    votes: dict[str, float] | None = None
    """By class, how many people saw it in the image; None where nobody was asked."""
    box: Box | None = None
    """Where the face is, as far as the source says."""


def is_uri(location: str) -> bool:
    """True for s3://bucket/key, false for a path of this machine."""
    return "://" in location


def read_content(file: str) -> bytes:
    """All bytes of a local path or URI; OSError where that fails."""
    if not is_uri(file):
        if not stat.S_ISREG(os.stat(file).st_mode):  # a pipe or /dev/zero has no end
            raise OSError(errno.EINVAL, "it is no regular file")
        with open(file, "rb", buffering=0) as opened:
            return opened.readall()
    base, mark, options = file.partition("?")  # s3://bucket/key?region=…
    parent, _, name = base.rpartition("/")
    return _folder(parent + mark + options).read_bytes(unquote(name))


def beside(location: str, path: str) -> str:
    """`path` as a file at `location` means it: relative to the folder of that file."""
    if is_uri(path) or os.path.isabs(path):
        return path
    if not is_uri(location):
        return os.path.join(os.path.dirname(location), path)
    base, mark, options = location.partition("?")
    return f"{base.rpartition('/')[0]}/{quote(path)}{mark}{options}"


def file_name(location: str) -> str:
    """Last part of a path or URI, without a URI's options."""
    base = location.partition("?")[0] if is_uri(location) else location
    return base.rstrip("/").rpartition("/")[2]


@functools.lru_cache(maxsize=1024)
def _folder(location: str) -> Folder:
    """One client per folder: opening a new one for every object costs a connection."""
    return Folder(location)


def clean_label(text: str) -> str:
    """NFC: macOS stores 기쁨 decomposed, and one class must not become two."""
    return unicodedata.normalize("NFC", printable(text)).strip()


def printable(text: str) -> str:
    """File names that are not UTF-8 become showable, with U+FFFD for what they were."""
    return os.fsencode(text).decode("utf-8", "replace")


def some_of(names: Sequence[str]) -> str:
    """The names in one line, which does not grow without end."""
    shown = ", ".join(names[:MAX_SHOWN_NAMES])
    left = len(names) - MAX_SHOWN_NAMES
    return f"{shown} and {left:,} more" if left > 0 else shown


def is_utf8(text: str) -> bool:
    """False for a file name that Arrow cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lasts(error: OSError) -> bool:
    """Whether a second try would find the same."""
    return isinstance(error, FileNotFoundError) or error.errno in _LASTING


def identify(found: Found) -> tuple[str, str | None]:
    """(sha256 in hex, None), or (a stand-in made from the path, why the bytes cannot be read).

    CannotFinish where they could not be read this once: an image that is left out for a moment's
    trouble would make the source another one, for which nothing was trained yet.
    """
    try:
        if found.file is not None and not is_utf8(found.file):
            raise OSError(errno.EILSEQ, NOT_UTF8)
        content = found.content if found.content is not None else read_content(str(found.file))
    except (OSError, ValueError) as error:  # ValueError: a manifest path with a NUL in it
        if isinstance(error, OSError) and not _lasts(error):
            raise CannotFinish(
                f"{found.path} could not be read: {error.strerror or error}\nNothing was started; "
                "mend the disk, the network or the credentials, or take the file away, and run the "
                "command again."
            ) from error
        stand_in = hashlib.sha256(b"unreadable\0" + found.path.encode()).hexdigest()
        return stand_in, f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return hashlib.sha256(content).hexdigest(), None
