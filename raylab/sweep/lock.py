"""One writer at a time in a results directory: the second is told who holds it, and is refused.

`sweep` and `final` hold the results directory; `rerun`, which writes in a directory of its own,
that one. Reading needs no lock.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from raylab.errors import CannotFinish, CannotWrite, Problem, Refused
from raylab.results.directory import LOCK, ResultsDirectory
from raylab.storage import Folder

BEAT_S = 20.0
STALE_S = 120.0
"""A holder behind a URI that was silent for so long is taken for dead."""
SETTLE_S = 1.0
"""Two that start in the same moment both write; after this long both read who was last."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes in the directory. `beat`: seconds since 1970, of its last sign of life."""

    host: str
    pid: int
    since: str
    token: str
    beat: float = 0.0


@dataclass(slots=True)
class Hold:
    """That this process writes in the directory. Behind a URI another one may take it over."""

    taken_by: Holder | None = None

    def check(self) -> None:
        """CannotFinish once another process writes in the directory."""
        if self.taken_by is not None:
            raise CannotFinish(
                f"{_who(self.taken_by)} has taken the results over: this sweep gave no sign of "
                f"life for more than {STALE_S:.0f} s (its machine slept, or lost the network) and "
                "was taken for dead. What it finished is kept; the other one goes on from there."
            )


@contextmanager
def held(results: ResultsDirectory) -> Iterator[Hold]:
    """Keep every other writer out of the directory.

    Refused while another process holds it, or where nothing can be written. On a local disk the
    lock ends with the process, however that ends; behind a URI it grows stale, and who was silent
    for so long has to `check` whether another one took it.
    """
    holder = Holder(
        socket.gethostname(),
        os.getpid(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        secrets.token_hex(8),
    )
    hold = Hold()
    with contextlib.ExitStack() as stack:
        try:
            if results.folder.is_local:
                stack.enter_context(_local(results.folder, holder))
            else:
                stack.enter_context(_remote(results.folder, holder, hold))
        except (OSError, CannotWrite) as error:
            cause = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            text = f"cannot be written: {cause}; mend that, or give another directory by --results"
            raise Refused([Problem(results.location, text)], "the results directory") from error
        yield hold


@contextmanager
def _local(folder: Folder, holder: Holder) -> Iterator[None]:
    """A lock of the operating system on a small file."""
    os.makedirs(folder.location, exist_ok=True)
    path = folder.path_of(LOCK)
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  # it is the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = _parsed(file.read())
            file.close()
            raise _refused(folder, other) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                file.close()
                raise
            break  # a network disk without locks: as good as it gets
        # The former holder may have taken the file away between our opening and our lock.
        if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            break
        file.close()
    try:
        file.truncate(0)
        file.write(json.dumps(asdict(holder)))
        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            file.close()


@contextmanager
def _remote(folder: Folder, holder: Holder, hold: Hold) -> Iterator[None]:
    """A small object that its holder writes anew as long as it lives and it is its own."""
    other = _read(folder)
    if other and not _is_dead(other):
        raise _refused(folder, other)
    _beat(folder, holder)
    time.sleep(SETTLE_S)
    if other := _other(folder, holder):
        raise _refused(folder, other)
    is_over = threading.Event()

    def live() -> None:
        while hold.taken_by is None and not is_over.wait(BEAT_S):
            with contextlib.suppress(OSError, CannotWrite):
                hold.taken_by = _other(folder, holder)
                if hold.taken_by is None:
                    _beat(folder, holder)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        with contextlib.suppress(OSError):
            if _other(folder, holder) is None:
                folder.delete(LOCK)


def _beat(folder: Folder, holder: Holder) -> None:
    folder.write_json(LOCK, {**asdict(holder), "beat": time.time()})


def _read(folder: Folder) -> Holder | None:
    try:
        return _parsed(folder.read_bytes(LOCK).decode())
    except FileNotFoundError:
        return None


def _other(folder: Folder, holder: Holder) -> Holder | None:
    """Who holds the directory in place of `holder`."""
    found = _read(folder)
    return found if found and found.token != holder.token else None


def _parsed(text: str) -> Holder | None:
    """None where it was not written to the end."""
    try:
        given: dict[str, Any] = json.loads(text)
        return Holder(**given)
    except (ValueError, TypeError):
        return None


def _is_dead(holder: Holder) -> bool:
    """Silent for long, or a process of this machine that is no more."""
    if time.time() - holder.beat > STALE_S:
        return True
    if holder.host != socket.gethostname():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _refused(folder: Folder, holder: Holder | None) -> Refused:
    who = _who(holder) if holder else "another"
    text = f"raylab writes in it already ({who}); wait for it, end it, or give another directory"
    if not folder.is_local:
        text += f"; should it be dead, it is let go {STALE_S:.0f} s after its last sign of life"
    return Refused([Problem(folder.location, text)], "the results directory")


def _who(holder: Holder) -> str:
    return f"process {holder.pid} on {holder.host} since {holder.since}"
