"""`raylab watch`: a sweep that runs elsewhere, live."""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from raylab.commands.exit_codes import exit_codes
from raylab.commands.options import ResultsPlace


def watch(
    results: ResultsPlace,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it in a browser, at http://127.0.0.1:PORT.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Of --serve; 0 = a free one.")
    ] = 8267,
    as_json: Annotated[
        bool, typer.Option("--json", help="The sweep as it stands, once, as JSON.")
    ] = False,
) -> None:
    """Show a sweep that runs in another terminal or on a cluster, until it ends. One that has ended
    is given half a minute to go on.

    raylab watch results/aug
    """
    with exit_codes():
        from raylab.results.directory import ResultsDirectory
        from raylab.results.watching import snapshots

        directory = ResultsDirectory(results)
        if as_json:
            now = next(snapshots(directory))
            typer.echo(json.dumps(now.to_json(), ensure_ascii=False))
        elif serve:
            show_in_browser(directory, port)
        else:
            show_in_terminal(directory)


def show_in_terminal(directory: Any) -> None:
    """A table that updates in place; without a terminal, a line when a trial has ended."""
    from rich.console import Console
    from rich.live import Live

    from raylab.results.live_text import LiveTable, best_line, summary_line

    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for snapshot in followed(directory):
                live.update(LiveTable(snapshot), refresh=True)
        return
    num_told = -1
    for snapshot in followed(directory):
        if snapshot.num_ended != num_told or snapshot.state == "ended":
            num_told = snapshot.num_ended
            typer.echo(f"{summary_line(snapshot)}; {best_line(snapshot)}")


def followed(directory: Any) -> Iterator[Any]:
    """Its snapshots, with a word on the wait where there may be nothing to wait for."""
    from raylab.results.watching import BEGIN_S, snapshots

    for at, snapshot in enumerate(snapshots(directory)):
        yield snapshot
        if at == 0 and snapshot.state == "ended":
            wait = f"given {BEGIN_S:g} s to go on (Ctrl-C leaves)"
            print(f"this sweep has ended, and is {wait}", file=sys.stderr)


def show_in_browser(directory: Any, port: int) -> None:
    """A page on this machine, until Ctrl-C."""
    from raylab.errors import Problem, Refused
    from raylab.results.live_server import live_server

    try:
        server = live_server(directory.live, port)
    except OSError as error:
        text = f"{port} cannot be used: {error.strerror}; give another, or 0 for a free one"
        raise Refused([Problem("--port", text)], "the options", "nothing is served") from error
    with server:
        print(f"http://127.0.0.1:{server.server_port}  (Ctrl-C ends it)", file=sys.stderr)
        server.serve_forever()
