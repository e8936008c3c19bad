"""From a file of suspicious images to the training images that are left without them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raylab.config.files import checked
from raylab.config.trial import TrialConfig

COLUMN = "image_id"


def suspect_ids(path: str, digest: str = "") -> frozenset[str]:
    """The image_id column of a Parquet file, such as suspects.parquet.

    ValueError where there is no such file or column, or its content has not that digest.
    """
    file = checked("drop_suspects", path, digest)
    try:
        column = pq.read_table(file, columns=[COLUMN])[COLUMN]
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(
            f"drop_suspects: {path} is no Parquet file with a column {COLUMN}, as raylab diagnose "
            f"writes suspects.parquet: {error}"
        ) from error
    return frozenset(map(str, column.to_pylist()))


def unsuspected(
    train: npt.NDArray[np.int64], image_ids: list[str], config: TrialConfig
) -> npt.NDArray[np.int64]:
    """The training places without the config's suspects; image_ids: of all places.

    ValueError if that leaves all of them: the config would be another's twin.
    """
    suspects = suspect_ids(config.drop_suspects, config.drop_suspects_digest)
    is_kept = np.array([image_ids[place] not in suspects for place in train], dtype=np.bool_)
    if is_kept.all():
        raise ValueError(
            f"drop_suspects: none of the {len(suspects):,} images of {config.drop_suspects} trains "
            "here; suspects are images that an earlier sweep validated, so train on those: another "
            "split.seed, or split.folds"
        )
    return train[is_kept]
