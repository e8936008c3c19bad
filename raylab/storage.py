"""A folder, local or behind a URI, whose files appear whole; it refuses to know what is in them."""

import contextlib
import errno
import functools
import json
import os
import random
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from raylab.errors import CannotWrite, Problem, Refused

# Nobody lists or reads a file of this ending: it is half written, or was when its writer died.
UNFINISHED_SUFFIX = ".part"

PAUSES_S = (0.5, 2.0, 8.0)
"""How long a remote storage that failed is left alone before it is asked again."""
S3_ATTEMPTS = 5
"""Of a single request, within a second."""
# What no second try heals, and what only a person can mend.
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
_FINAL_TEXTS = ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "NO_SUCH_BUCKET", "No credentials")
_TAKES_NO_MORE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
}

URI_SAFE = "/:%@+,=&()!*'~$;[]"
"""What a URI may hold beside letters and digits; a space or 기쁨 is written with %."""

# Of a URI in any text: what stands before its host, also where a / in it should be a %2F; and the
# value of every option whose name says that it is secret.
_USER_INFO = re.compile(r'(?<=://)(?:[^\s/?#"\\]*|[^\s/?#:@"\\]+:(?!\d+\b)[^\s"\\]*)@')
_SECRET_OPTION = re.compile(
    r'([?&][^\s=&#"\\]*(?:key|secret|token|password|credential|sig)[^\s=&#"\\]*=)[^\s&#"\\]*', re.I
)

T = TypeVar("T")


class Folder:
    """A local directory or a URI that pyarrow can open (s3://, gs://, file://, …).

    It need not exist yet: the first write creates it. Names below it are relative and use `/`.
    Pickles as its location, so a worker on another machine opens its own connection.
    """

    __slots__ = ("location",)

    def __init__(self, location: str | Path) -> None:
        self.location: str = _absolute(location)

    def __repr__(self) -> str:
        return f"Folder({self.location!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.location == self.location

    def __hash__(self) -> int:
        return hash(self.location)

    @property
    def is_local(self) -> bool:
        """Whether it is a directory of this machine."""
        return "://" not in self.location

    def path_of(self, name: str) -> str:
        """The name as a user can open it: a local path, or a URI."""
        _check(name)
        if self.is_local:
            return os.path.join(self.location, name)
        base, mark, options = self.location.partition("?")  # s3://bucket/path?region=…
        return f"{base.rstrip('/')}/{quote(name)}{mark}{options}"

    def child(self, name: str) -> "Folder":
        """The folder of that name in this one."""
        return Folder(self.path_of(name))

    @property
    def name(self) -> str:
        """By what name it is a child of the folder above."""
        if self.is_local:
            return os.path.basename(self.location)
        return unquote(self.location.partition("?")[0].rstrip("/").rpartition("/")[2])

    @property
    def above(self) -> "Folder | None":
        """The folder in which it is; None of a bucket, and of the root of the disk."""
        if self.is_local:
            parent = os.path.dirname(self.location)
            return None if parent == self.location else Folder(parent)
        base, mark, options = self.location.partition("?")
        parent = base.rstrip("/").rpartition("/")[0]
        return Folder(f"{parent}{mark}{options}") if "://" in parent else None

    def opened(self) -> tuple[fs.FileSystem | None, str]:
        """A filesystem and the path on it, for a library that writes there by itself; None for this
        machine's own disk.
        """
        if self.is_local:
            return None, self.location
        return persistently(lambda: _open(self.location))

    def write_bytes(self, name: str, data: "bytes | memoryview | pa.Buffer") -> None:
        """The file appears whole or not at all; one that stands there is replaced in one step."""
        _check(name)
        if not self.is_local:
            try:
                persistently(lambda: self._upload(name, data))
            except OSError as error:
                raise cannot_write(self.path_of(name), error) from error
            return
        path = self.path_of(name)
        unfinished = os.path.join(
            os.path.dirname(path), f".{secrets.token_hex(8)}{UNFINISHED_SUFFIX}"
        )
        with appearing_whole(path, unfinished), open(unfinished, "xb") as file:
            file.write(data)

    def _upload(self, name: str, data: "bytes | memoryview | pa.Buffer") -> None:
        """An object store shows an object only when its upload is complete."""
        filesystem, base = _open(self.location)
        path = f"{base}/{name}"
        if not isinstance(filesystem, fs.S3FileSystem):
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def read_bytes(self, name: str) -> bytes:
        """The file's content; FileNotFoundError if there is none."""
        _check(name)
        if self.is_local:
            return Path(self.path_of(name)).read_bytes()

        def read() -> bytes:
            filesystem, base = _open(self.location)
            with filesystem.open_input_file(f"{base}/{name}") as file:
                return bytes(file.read())

        return persistently(read)

    def exists(self, name: str) -> bool:
        """Whether a file or a folder of that name is there."""
        _check(name)
        if self.is_local:
            return os.path.exists(self.path_of(name))
        return bool(self._info(name).type != fs.FileType.NotFound)

    def names(self, prefix: str = "") -> list[str]:
        """Every finished file below, at any depth, whose relative name starts with `prefix`."""
        start = prefix.rpartition("/")[0]  # only this subfolder needs to be listed
        found = self._local_names(start) if self.is_local else self._remote_names(start)
        return sorted(
            name
            for name in found
            if name.startswith(prefix) and not name.endswith(UNFINISHED_SUFFIX)
        )

    def delete_unfinished(self, start: str) -> None:
        """Removes what writers left half written below the subfolder `start`, where that is known;
        one that still writes there finds its file gone, and fails.
        """
        for name in self._local_names(start) if self.is_local else ():
            if name.endswith(UNFINISHED_SUFFIX):
                self.delete(name)

    def write_table(self, name: str, table: pa.Table) -> None:
        """One Parquet file, whole or not at all."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write_bytes(name, sink.getvalue())

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The Parquet file of that name; FileNotFoundError if there is none."""
        _check(name)
        # ParquetFile, not read_table: a folder called `lr=0.1` on the way is no partition column.
        if self.is_local:
            with open(self.path_of(name), "rb") as local:
                return pq.ParquetFile(local).read(columns)

        def read() -> pa.Table:
            filesystem, base = _open(self.location)
            with filesystem.open_input_file(f"{base}/{name}") as remote:
                return pq.ParquetFile(remote).read(columns)

        return persistently(read)

    def write_json(self, name: str, value: Any) -> None:
        """Indented UTF-8 JSON; NaN and infinity are refused, since no other reader takes them."""
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
        self.write_bytes(name, f"{text}\n".encode())

    def read_json(self, name: str) -> Any:
        """The value; FileNotFoundError if there is none, ValueError if it is no JSON."""
        return json.loads(self.read_bytes(name))

    def delete(self, name: str) -> None:
        """Removes the file, or the folder with all that is in it; missing is fine."""
        _check(name)
        if self.is_local:
            path = Path(self.path_of(name))
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return
        persistently(lambda: self._delete_remote(name))

    def _delete_remote(self, name: str) -> None:
        info = self._info(name)
        filesystem, _ = _open(self.location)
        with contextlib.suppress(FileNotFoundError):  # an earlier try that only seemed to fail
            if info.type == fs.FileType.Directory:
                filesystem.delete_dir(info.path)
            elif info.type != fs.FileType.NotFound:
                filesystem.delete_file(info.path)

    def _info(self, name: str) -> fs.FileInfo:
        filesystem, base = _open(self.location)
        info: fs.FileInfo = persistently(lambda: filesystem.get_file_info(f"{base}/{name}"))
        return info

    def _local_names(self, start: str) -> list[str]:
        base = Path(self.location)
        return [
            Path(folder, file).relative_to(base).as_posix()
            for folder, _, files in os.walk(base / start)
            for file in files
        ]

    def _remote_names(self, start: str) -> list[str]:
        filesystem, base = _open(self.location)
        folder = f"{base}/{start}" if start else base
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        return [
            info.path.removeprefix(f"{base}/")
            for info in persistently(lambda: filesystem.get_file_info(selector))
            if info.type == fs.FileType.File
        ]


def file_at(place: str) -> tuple[Folder, str]:
    """The folder of a file that a user names by a path or a URI, and the file's name in it.

    Refused where no file can be: at a folder or a bucket, or below a file.
    """
    file = Folder(place)
    folder = file.above
    if folder is None or (file.is_local and os.path.isdir(file.location)):
        text = "is a folder; name a file in it"
    elif folder.is_local and not (there := _nearest(folder.location)).is_dir():
        text = f"cannot be below {there}, which is a file; give another path"
    else:
        return folder, file.name
    raise Refused([Problem(place, text)], "--output", "nothing was written")


@contextlib.contextmanager
def appearing_whole(path: str, unfinished: str) -> Iterator[None]:
    """What the block writes as `unfinished` then stands at `path`; of a block that fails nothing is
    left. CannotWrite where the storage takes no more.
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        yield
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(unfinished).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _TAKES_NO_MORE:
            raise cannot_write(path, error) from error
        raise


def _nearest(path: str) -> Path:
    """The path, or the first above it that is there."""
    return next(there for there in (Path(path), *Path(path).parents) if os.path.exists(there))


def persistently(work: Callable[[], T]) -> T:
    """What `work` gives, tried again with longer and longer pauses while the storage fails."""
    for pause_s in PAUSES_S:
        try:
            return work()
        except OSError as error:
            if isinstance(error, _FINAL) or any(text in str(error) for text in _FINAL_TEXTS):
                raise
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # so that workers do not come together
    return work()


def without_secrets(text: str) -> str:
    """The text as it may be told to others: `s3://KEY:SECRET@bucket/x?token=…` in it is
    `s3://bucket/x?token=***`.
    """
    return _SECRET_OPTION.sub(r"\1***", _USER_INFO.sub("", text))


def cannot_write(path: str, error: OSError) -> CannotWrite:
    """The error that says what to do when the storage takes no more."""
    cause = error.strerror or str(error)
    return CannotWrite(
        f"{path} cannot be written: {cause}\nWhat is finished is kept and whole; mend the storage "
        "(free space, permissions, the network), and the same command goes on from there."
    )


def _absolute(location: str | Path) -> str:
    text = str(location)
    if text.startswith("file://"):
        text = unquote("/" + text.removeprefix("file://").partition("/")[2])  # less the host
    if "://" in text:
        base, mark, options = text.rstrip("/").partition("?")
        return f"{quote(base, safe=URI_SAFE)}{mark}{options}"
    return os.path.abspath(os.path.expanduser(text))


def _check(name: str) -> None:
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "" in parts:
        raise ValueError(f"{name!r} is not a relative name below a folder")


@functools.cache
def _open(location: str) -> tuple[fs.FileSystem, str]:
    """The connection of a URI and the path in it, made once per process."""
    try:
        filesystem, path = fs.FileSystem.from_uri(location)
    except pa.ArrowInvalid as error:
        text = f"is no place that can be opened ({error}); give a folder, s3://bucket/path or gs://"
        raise Refused([Problem(location, text)], location) from error
    if isinstance(filesystem, fs.S3FileSystem):  # this one would not try again by itself
        rebuild, (settings,) = filesystem.__reduce__()
        retries = fs.AwsDefaultS3RetryStrategy(max_attempts=S3_ATTEMPTS)
        filesystem = rebuild(settings | {"retry_strategy": retries})
    return filesystem, path.rstrip("/")
