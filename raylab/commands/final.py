"""`raylab final`: retrain the chosen config and score the locked test split."""

import json
from typing import Annotated, Any

import typer

from raylab.commands.exit_codes import exit_codes, terminated_as_interrupt
from raylab.commands.options import Address, AsJson, Data, Quiet, ResultsPlace
from raylab.commands.sweep import refuse_submission


def final(
    results: ResultsPlace,
    top: Annotated[
        int, typer.Option(min=1, metavar="K", help="Score the K best families: K looks.")
    ] = 1,
    ensemble: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="K", help="Score the best weighted mean of up to K families: one look."
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Score although it was scored before; it is counted.")
    ] = False,
    data: Data = None,
    address: Address = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Retrain the best family on train and val, and score the locked test split once.

    raylab final results/aug
    """
    with exit_codes():
        if address and address.startswith("http"):
            refuse_submission(address)
        from raylab.after.final import FinalOptions, run_final

        with terminated_as_interrupt():
            options = FinalOptions(results, top, ensemble, again, data, address, quiet)
            report = run_final(options)
        typer.echo(json.dumps(report, ensure_ascii=False) if as_json else final_text(report))


def final_text(report: dict[str, Any]) -> str:
    """What final.json says, as a few lines for people."""
    lines = [f"{report['what']} of {report['num_families']} families"]
    for model in report["models"]:
        why = model["chosen_by"]
        lines.append(
            f"{model['rank']:>3}  {model['name']}  ({why['metric']} {why['mean']:.4f} over "
            f"{why['complete_trials']} of {why['recorded_trials']} trials), retrained on "
            f"{model['num_train']:,} images for {model['epochs']} epochs: {model['model']}"
        )
        if "weight" in model:
            lines.append(f"     weight {model['weight']:.2f}, from the validation images")
        if len(report["models"]) > 1 and "test" in model:
            lines.append(f"     test accuracy {interval(model['test'])}")
    test = report["test"]
    lines.append(f"test accuracy  {interval(test)} on {test['num_images']:,} images")
    if "test" in report["models"][0]:  # an ensemble's members were validated one by one
        lines.append(f"val accuracy   {report['models'][0]['val_accuracy']:.4f} in the sweep")
    lines.append(f"test macro F1  {test['macro_f1']:.4f}")
    recalls = (
        f"{name} –" if share is None else f"{name} {share:.2f}"
        for name, share in test["recall"].items()
    )
    lines.append(f"test recall    {'  '.join(recalls)}")
    times = report["scorings"]
    asked = "once" if times == 1 else f"{times} times"
    lines.append(f"the test split was scored {asked}")
    return "\n".join(lines)


def interval(test: dict[str, Any]) -> str:
    """`0.7518 [0.674, 0.816]`."""
    return f"{test['accuracy']:.4f} [{test['accuracy_low']:.3f}, {test['accuracy_high']:.3f}]"
