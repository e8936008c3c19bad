"""From what happened to an exit code: errors as one text on stderr, signals as an interrupt."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from raylab.errors import RaylabError, Refused

# Of Python's own modules, those that what runs trials imports and Windows lacks.
NOT_ON_WINDOWS = {"fcntl", "resource"}
# What the system says of a path that the user gave, rather than of what raylab does with it.
ABOUT_THE_PATH = {
    *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EEXIST, errno.EROFS, errno.ENOSPC),
}
OF_A_STORAGE = ("AWS Error", "google::cloud::")  # how pyarrow begins what S3 and GCS answer


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors that are ours become one text on stderr and an exit code; a pipe may close early."""
    try:
        yield
    except RaylabError as error:
        from raylab.storage import without_secrets

        typer.echo(without_secrets(str(error)), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in NOT_ON_WINDOWS:
            raise
        typer.echo("trials run on Linux and macOS; on Windows use raylab inside WSL", err=True)
        sys.exit(Refused.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if (text := _of_place(error)) is None:
            raise
        typer.echo(text, err=True)
        sys.exit(Refused.exit_code if error.filename else RaylabError.exit_code)


def _of_place(error: OSError) -> str | None:
    """What to do about a path or a storage that cannot be used; None for every other error."""
    if error.filename and error.errno in ABOUT_THE_PATH:
        return f"{error.filename}  cannot be used: {error.strerror}; give another path"
    if any(words in str(error) for words in OF_A_STORAGE):
        return f"{error}\nmend that (network, credentials), and give the same command again"
    return None


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does: with everything finished kept."""

    def interrupt(signum: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
