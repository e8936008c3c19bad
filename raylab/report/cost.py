"""From seconds of trials to what the sweep cost, and whether a cheaper config would have done."""

import pandas as pd

from raylab.analysis.families import measured
from raylab.report.blocks import Block, Chart, Column, Section, Table
from raylab.report.figures import figure, label, rounded
from raylab.report.material import Part, Sweep
from raylab.report.palette import ACCENT, REST, TIED, TIED_KEY, WINNER
from raylab.report.wording import count, duration, percent
from raylab.results.table import BLANK, number_text

MAX_POINTS = 500


def cost(part: Part) -> Section:
    """Totals per sweep, and accuracy against seconds."""
    blocks: list[Block] = [_totals(part)]
    chart = _against_accuracy(part)
    return Section("Cost", [chart, *blocks] if chart else blocks, _cheapest(part))


def busy_seconds(trials: pd.DataFrame) -> float:
    """Wall time during which at least one trial ran: pauses between runs cost nothing."""
    starts = pd.to_datetime(trials["started_at"], utc=True, errors="coerce", format="ISO8601")
    spans = pd.DataFrame(
        {"start": starts, "end": starts + pd.to_timedelta(trials["seconds"].fillna(0), unit="s")}
    )
    spans = spans.dropna().sort_values("start")
    if spans.empty:
        return 0.0
    before = spans["end"].cummax().shift().fillna(spans["start"].iloc[0])
    begins = spans["start"].where(spans["start"] > before, before)
    alone: pd.Series[float] = (spans["end"] - begins).dt.total_seconds()
    return float(alone.clip(lower=0).sum())


def _totals(part: Part) -> Table:
    names = ("trials", "epochs", "trial time", "per trial", "wall time", "images/s", "cost")
    rows = []
    for sweep in part.sweeps:
        trials = sweep.trials
        busy = busy_seconds(trials)
        rows.append(
            [
                sweep.name,
                f"{len(trials):,}",
                f"{int(trials['num_epochs'].sum()):,}",
                duration(float(trials["seconds"].sum())),
                duration(float(trials["seconds"].median())),
                duration(busy) if busy else BLANK,
                number_text(trials["train_images_per_s"].median(), 0),
                _dollars(sweep, busy),
            ]
        )
    notes = [
        "Per trial: the median. Wall time: while at least one trial ran, without preparation. "
        "Cost: wall time at resources.usd_per_hour, where the grid has it; energy was not measured."
    ]
    columns = [Column("sweep"), *(Column(name, True) for name in names)]
    return Table("Totals", columns, rows, notes=notes)


def _dollars(sweep: Sweep, busy: float) -> str:
    price = None if sweep.config is None else sweep.config.resources.usd_per_hour
    return BLANK if price is None else f"${busy / 3600 * price:,.2f}"


def timed(part: Part) -> pd.DataFrame:
    """The measured families, and in `each` the mean seconds of the trials that measured them."""
    trials = measured(part.trials.drop_duplicates("trial_id"))
    each = trials.groupby("family_id")["seconds"].mean()
    families = part.families.assign(each=part.families["family_id"].map(each))
    return families[families["family_mean"].notna() & (families["each"] > 0)]


def _cheapest(part: Part) -> str:
    """Whether one that may be the best as well takes less time."""
    known = timed(part)
    tied = known[known["tied"] == "yes"]
    if len(tied) < 2:
        return ""
    best, cheap = tied.iloc[0], tied.iloc[int(tied["each"].to_numpy().argmin())]
    if cheap["family_id"] == best["family_id"]:
        return f"The winner is also the quickest of the {len(tied)} that may be the best."
    name = part.names[str(cheap["family_id"])]
    return (
        f"Of the {len(tied)} that may be the best, the quickest is {name}: "
        f"{duration(float(cheap['each']))} a trial instead of {duration(float(best['each']))}, at "
        f"{percent(cheap['family_mean'])} instead of {percent(best['family_mean'])}."
    )


def _against_accuracy(part: Part) -> Chart | None:
    known = timed(part).head(MAX_POINTS)
    if len(known) < 3:
        return None
    colours = [
        ACCENT if i == 0 else TIED if tied == "yes" else REST
        for i, tied in enumerate(known["tied"])
    ]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(known["each"]),
        "y": rounded(100 * known["family_mean"]),
        "marker": {"color": colours, "size": 9},
        "text": [label(part.names[str(i)]) for i in known["family_id"]],
        "hovertemplate": "%{text}<br>%{x:.1f} s, %{y:.2f} %<extra></extra>",
    }
    chart = figure(
        [dots],
        320,
        x={"title": "seconds per trial", "rangemode": "tozero"},
        y={"title": "accuracy, %"},
    )
    alt = f"Accuracy against seconds per trial of {count(len(known), 'config')}."
    return Chart(chart, "Accuracy against time", alt, keys=[WINNER, TIED_KEY])
