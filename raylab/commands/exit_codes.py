"""From what happened to an exit code: errors as one text on stderr, signals as an interrupt."""

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


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors that are ours become one text on stderr and an exit code; a pipe may close early."""
    try:
        yield
    except RaylabError as error:
        typer.echo(str(error), err=True)
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
