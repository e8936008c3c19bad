"""What all trials of a sweep have in common; it lies in Ray's object store once."""

from dataclasses import dataclass

from raylab.sweep.cluster import Slot
from raylab.sweep.shards import Images, Variants


@dataclass(frozen=True, slots=True)
class Shared:
    """What a trial is given beside its config."""

    images: Images
    variants: Variants
    results: str
    metric: str
    slot: Slot
    keep_weights: bool
    may_prune: bool
    """Whether any epoch may be a trial's last."""
