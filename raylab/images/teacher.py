"""From a teacher's probabilities of images to what those images teach a trial.

N = readable images, K = classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raylab.config.files import checked
from raylab.config.trial import TrialConfig

IMAGE_ID = "image_id"
PREFIX = "p_"  # as in predictions/<trial_id>.parquet


def teacher_table(
    image_ids: Sequence[str], probs: npt.NDArray[np.float32], classes: Sequence[str]
) -> pa.Table:
    """One row per image, a column per class; probs: (N, K), rows of which add up to 1."""
    columns = {f"{PREFIX}{name}": probs[:, k] for k, name in enumerate(classes)}
    return pa.table({IMAGE_ID: pa.array(image_ids, pa.string()), **columns})


def taught_by(
    config: TrialConfig,
    targets: npt.NDArray[np.float32],
    image_ids: Sequence[str],
    classes: Sequence[str],
    held_out: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """float32 (N, K): the config's mean of `targets` (N, K) and its teacher's probabilities, where
    the teacher has some; held_out: places among the N that validate or test.

    ValueError where the file is not the one meant or of other images, and where it speaks of images
    that are held out: its models trained on them, and would tell what they must not.
    """
    ids, probs = read_teacher(config.teacher, config.teacher_digest, classes)
    place_of = {image_id: place for place, image_id in enumerate(image_ids)}
    known = np.array([image_id in place_of for image_id in ids], dtype=np.bool_)
    places = np.array([place_of[i] for i, is_known in zip(ids, known, strict=True) if is_known])
    if not len(places):
        raise ValueError(f"teacher: none of the {len(ids):,} images of {config.teacher} is here")
    if num_leaked := int(np.isin(held_out, places).sum()):
        raise ValueError(
            f"teacher: {config.teacher} was made by models that trained on {num_leaked:,} images "
            "which are held out here; a trial must have the split that its teacher had (the same "
            "split.seed, shares and fold), or its accuracy would be too good to be true"
        )
    weight = config.teacher_weight
    taught = targets.copy()
    taught[places] = (1 - weight) * targets[places] + weight * probs[known]
    return taught


def read_teacher(
    path: str, digest: str, classes: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """(image_ids, probs (N, K) in the order of `classes`); ValueError as `taught_by`."""
    file = checked("teacher", path, digest)
    wanted = [IMAGE_ID, *(f"{PREFIX}{name}" for name in classes)]
    try:
        table = pq.read_table(file)
    except pa.ArrowException as error:
        raise ValueError(f"teacher: {path} is no Parquet file: {error}") from error
    if missing := sorted(set(wanted) - set(table.column_names)):
        raise ValueError(
            f"teacher: {path} has no column {', '.join(missing)}; raylab distill writes one per "
            f"class of the source: {', '.join(wanted)}"
        )
    columns = [np.asarray(table[name], dtype=np.float32) for name in wanted[1:]]
    probs = np.stack(columns, axis=1)
    sums = probs.sum(1, keepdims=True)
    if not (np.isfinite(probs).all() and (probs >= 0).all() and (sums > 0).all()):
        raise ValueError(f"teacher: {path} holds values that are no probabilities")
    return [str(image_id) for image_id in table[IMAGE_ID].to_pylist()], probs / sums
