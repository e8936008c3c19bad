"""From images and a split to the identical images that stand on two of its sides."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Leak:
    """Images of one split that a model is scored on after it trained on their exact copies."""

    split_fingerprint: str
    num_val: int
    copied_val: frozenset[str]
    """Validation image_ids whose bytes also stand in the training split."""
    num_test: int
    copied_test: frozenset[str]
    examples: tuple[tuple[str, str], ...]
    """(validation or test path, training path), the first few."""


def find_leak(split_fingerprint: str, images: pd.DataFrame, split: pd.DataFrame) -> Leak:
    """images: image_id, path, sha256; split: image_id, split (train, val, test).

    Identical means the file's bytes; recompressed or resized copies are for `raylab audit`.
    """
    joined = images[["image_id", "path", "sha256"]].merge(split, on="image_id")
    train = joined[joined["split"] == "train"].drop_duplicates("sha256").set_index("sha256")["path"]
    scored = joined[joined["split"].isin(["val", "test"])]
    copies = scored[scored["sha256"].isin(train.index)]
    pairs = zip(copies["path"], copies["sha256"].map(train), strict=True)
    return Leak(
        split_fingerprint=split_fingerprint,
        num_val=int((scored["split"] == "val").sum()),
        copied_val=frozenset(copies.loc[copies["split"] == "val", "image_id"]),
        num_test=int((scored["split"] == "test").sum()),
        copied_test=frozenset(copies.loc[copies["split"] == "test", "image_id"]),
        examples=tuple((str(a), str(b)) for a, b in list(pairs)[:5]),
    )
