"""From a kept model and its results to MODEL_CARD.md (Mitchell et al. 2019): what it was made of,
what it scored, and what its answers cannot mean.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from raylab import __version__
from raylab.config.files import parent_of
from raylab.config.trial import TrialConfig
from raylab.results.directory import ResultsDirectory
from raylab.results.intervals import wilson
from raylab.results.record import Record
from raylab.storage import without_secrets

MAX_CONFUSIONS = 3
UNKNOWN = "unknown here"

LIMITS = """\
- A label is what people read in a face, not what the person felt: reviews find no expression that
  reliably tells an emotion across people and situations (Barrett et al. 2019). The model repeats
  the reading of whoever labelled these images, with its errors and habits.
- People disagree about such labels. On FER2013, ten raters' majority agrees with the original label
  on 66 % of the images (fear 14 %, disgust 38 %, happy 93 %; Barsoum et al. 2016). Accuracy above
  what raters reach is skill at guessing the labels, not at reading faces.
- The scores hold for images like those above. Other cameras, crops, ages, skins, cultures or
  covered faces were not tested unless they are in the data; scores per group of people are unknown.
- A probability is comparable between images, not a measured frequency: it was not calibrated.
- It answers for every image, also one without a face.
- Do not decide about a person by it. In the EU, inferring emotions at work or in education is
  prohibited (Regulation 2024/1689, Article 5(1)(f), but for medical or safety reasons)."""

LICENCE = """\
raylab claims no rights in these weights. What may be done with them depends on the images they
were trained on{weights}: look up both before passing the model on. FER2013, for one, states no
licence; its faces came from a web search."""


@dataclass(frozen=True)
class About:
    """What the model itself says."""

    trial_id: str
    file: str
    config: TrialConfig
    classes: tuple[str, ...]
    preprocessing: str
    is_final: bool
    """Retrained on train and val together."""


def model_card(about: About, results: ResultsDirectory | None) -> str:
    """Markdown. Without `results`, what only they know is left out, and said to be."""
    known = {} if results is None else {r.trial_id: r for r in results.records()}
    record = known.get(about.trial_id)
    final = _final_entry(about, results)
    sections = [
        f"{title(about.file)}{about.config.model}, {len(about.classes)} classes",
        f"Image classifier trained by raylab {__version__} as trial `{about.trial_id}`.",
        _section("Use", _use(about)),
        _section("Data", _data(about, results, record, final)),
        _section("Recipe", _recipe(about.config)),
        _section("Scores", _scores(about, results, record, final)),
        _section("Licence", iter([_licence(about.config, known)])),
        _section("Known limits", iter([LIMITS])),
    ]
    return "\n\n".join(sections) + "\n"


def title(file: str) -> str:
    """How the card of that file begins."""
    return f"# {file}: "


def _section(heading: str, lines: Iterator[str]) -> str:
    return f"## {heading}\n\n" + "\n".join(lines)


def _use(about: About) -> Iterator[str]:
    yield f"- Classes, in the order of the output: {', '.join(about.classes)}"
    yield f"- Input: {about.preprocessing}; normalisation is inside the model"
    yield f"- Test-time augmentation in its validation: {about.config.tta}"


def _data(
    about: About,
    results: ResultsDirectory | None,
    record: Record | None,
    final: Mapping[str, Any] | None,
) -> Iterator[str]:
    split = about.config.split
    if results is None or record is None:
        yield "- Unknown here: the results of the sweep are not beside the model"
    else:
        data = without_secrets(_source(results))
        yield f"- Images: {data} (fingerprint {record.data_fingerprint})"
        yield from _image_counts(results)
        yield f"- Split `{record.split_fingerprint}`: {_sides(results, record.split_fingerprint)}"
    yield (
        f"- Cut by: {split.strategy}, identical images with unlike labels "
        f"{'left out' if split.conflicts == 'drop' else 'kept'}"
    )
    if about.is_final:
        epochs = f" for {final['epochs']} epochs; scored on test" if final else ""
        yield f"- Retrained on train and val together{epochs}"


def _source(results: ResultsDirectory) -> str:
    """`data` of the grid, which copied results may lack."""
    try:
        return str(results.grid().get("data"))
    except FileNotFoundError:
        return UNKNOWN


def _sides(results: ResultsDirectory, split_fingerprint: str) -> str:
    try:
        split = results.split(split_fingerprint)
    except FileNotFoundError:
        return UNKNOWN
    counts = {row["values"]: row["counts"] for row in pc.value_counts(split["split"]).to_pylist()}
    return ", ".join(f"{s} {counts[s]:,}" for s in ("train", "val", "test") if s in counts)


def _image_counts(results: ResultsDirectory) -> Iterator[str]:
    try:
        images = results.images()
    except FileNotFoundError:
        return
    usable = images.filter(pc.equal(images["status"], "ok"))
    rows = pc.value_counts(usable["label"]).to_pylist()
    counts = sorted((row["values"], row["counts"]) for row in rows)
    listed = ", ".join(f"{label} {count:,}" for label, count in counts)
    yield f"- Usable: {usable.num_rows:,} of {images.num_rows:,} ({listed})"


def _recipe(config: TrialConfig) -> Iterator[str]:
    """What differs from the defaults, and what no reader should have to look up."""
    plain, given = TrialConfig().flat(), config.flat()
    always = {"model", "pretrained", "image_size", "channels", "augment", "epochs", "lr"}
    for name, value in given.items():
        if name in always or (value != plain[name] and not name.startswith("split.")):
            yield f"- {name}: {value}"


def _scores(
    about: About,
    results: ResultsDirectory | None,
    record: Record | None,
    final: Mapping[str, Any] | None,
) -> Iterator[str]:
    if final is not None:
        test = final["test"]
        yield (
            f"- Test accuracy {test['accuracy']:.4f} (95 % Wilson interval "
            f"{test['accuracy_low']:.3f} to {test['accuracy_high']:.3f}), macro F1 "
            f"{test['macro_f1']:.4f}, {test['num_images']:,} images"
        )
        times = "once"
        if final["scorings"] > 1:
            times = f"{final['scorings']} times: expect a little less of a model chosen by that"
        yield f"- Number {final['rank']} by validation; the test split was scored {times}"
        yield from _per_class(np.array(test["confusion"]), test["classes"])
        return
    if about.is_final and results is not None:  # it has learned what its trial validated on
        yield "- No test score of this model alone is known here: `raylab final` scored it as part"
        yield "  of an ensemble, or has since scored others"
        return
    if results is None or record is None or record.val_accuracy is None:
        yield f"- {UNKNOWN.capitalize()}"
        return
    yield (
        f"- Validation accuracy {record.val_accuracy:.4f} (95 % Wilson interval "
        f"{record.val_accuracy_low or 0:.3f} to {record.val_accuracy_high or 1:.3f}), macro F1 "
        f"{record.val_macro_f1 or 0:.4f}, {record.num_val or 0:,} images"
    )
    yield (
        f"- Epoch {record.best_epoch} of {record.num_epochs} was chosen on these same images, and "
        f"the trial among {len(results.records())}: expect a little less on new ones"
    )
    try:
        table = results.predictions(about.trial_id)
    except FileNotFoundError:
        return
    probs = np.stack([table[f"p_{name}"].to_numpy() for name in about.classes], axis=1)
    places = {name: k for k, name in enumerate(about.classes)}
    confusion = np.zeros((len(places), len(places)), dtype=np.int64)
    labels = [places[label] for label in table["label"].to_pylist()]
    np.add.at(confusion, (labels, probs.argmax(1)), 1)
    yield from _per_class(confusion, about.classes)


def _final_entry(about: About, results: ResultsDirectory | None) -> dict[str, Any] | None:
    """What `final` says of this very model, if it scored it alone, and of how often it scored."""
    report = results.final() if results is not None and about.is_final else None
    for model in report["models"] if report else ():
        if model["trial_id"] == about.trial_id and "test" in model:
            return {**model, "scorings": report["scorings"]}
    return None


def _per_class(confusion: np.ndarray[Any, Any], classes: Any) -> Iterator[str]:
    """confusion: int64 (K, K), rows = true class."""
    yield "\n| class | images | recall [95 %] | precision | most often taken for |"
    yield "|---|---:|---:|---:|---|"
    for k, name in enumerate(classes):
        row, right, num = confusion[k], int(confusion[k, k]), int(confusion[k].sum())
        taken = int(confusion[:, k].sum())
        low, high = wilson(right, num)
        recall = f"{right / num:.2f} [{low:.2f}, {high:.2f}]" if num else "–"
        precision = f"{right / taken:.2f}" if taken else "–"
        others = [j for j in np.argsort(-row, kind="stable") if j != k and row[j]]
        wrong = ", ".join(f"{classes[j]} {row[j]:,}" for j in others[:MAX_CONFUSIONS])
        yield f"| {name} | {num:,} | {recall} | {precision} | {wrong or '–'} |"


def _licence(config: TrialConfig, known: Mapping[str, Record]) -> str:
    """Names the weights at the start of the whole line: a trial may begin with another one's."""
    model, given = config.model, config.pretrained
    while (parent := known.get(parent_of(given) or "")) is not None and parent.trial:
        model, given = (parent.trial[name] for name in ("model", "pretrained"))
    if given is False:
        return LICENCE.format(weights="")
    name = f"timm's {model}" if given is True else str(given)
    return LICENCE.format(weights=f" and on the weights it began with ({name})")
