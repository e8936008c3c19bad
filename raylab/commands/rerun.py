"""`raylab rerun`: repeat a trial exactly and compare."""

import json
import sys
from typing import Annotated, Any

import typer

from raylab.commands.exit_codes import exit_codes, terminated_as_interrupt
from raylab.commands.options import Address, AsJson, Data, Quiet, ResultsPlace
from raylab.commands.sweep import refuse_submission


def rerun(
    results: ResultsPlace,
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="A trial_id, or enough of its beginning.")
    ],
    data: Data = None,
    address: Address = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Repeat a trial exactly and compare: exit 0 if it is the same or within the seeds' spread.

    raylab rerun results/aug 3f2a
    """
    with exit_codes():
        if address and address.startswith("http"):
            refuse_submission(address)
        from raylab.after.rerun import RerunOptions, run_rerun

        with terminated_as_interrupt():
            found = run_rerun(RerunOptions(results, trial, data, address, quiet))
        answer = found.to_json()
        typer.echo(json.dumps(answer, ensure_ascii=False) if as_json else rerun_text(answer))
        sys.exit(1 if found.verdict == "mismatch" else 0)


def rerun_text(answer: dict[str, Any]) -> str:
    """The verdict, the figures, and what was not as it had been."""
    accuracy, spread = answer["val_accuracy"], answer["spread"]
    verdict = answer["verdict"]
    if verdict == "same":
        verdict = "the same, bit for bit: every epoch's metrics and all predictions"
    lines = [f"trial {answer['trial_id']}: {verdict}"]
    if answer["first_difference"]:
        lines += [
            f"val accuracy  {accuracy['then']:.4f} then, {accuracy['now']:.4f} now "
            f"({accuracy['difference']:+.4f}; two seeds differ by up to {spread['limit']:.4f}: "
            f"{spread['source']})",
            f"parts at      {answer['first_difference']}",
        ]
    for name, pair in answer["differs"].items():
        lines.append(f"differs       {name}: {pair['then']} then, {pair['now']} now")
    if answer["verdict"] == "mismatch" and not answer["differs"]:
        lines.append("differs       nothing recorded: version, data and device are the same")
    return "\n".join(lines)
