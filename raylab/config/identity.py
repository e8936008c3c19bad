"""From a trial config and a data fingerprint to the trial's names for good."""

import hashlib
import json
from typing import Any

from raylab.config.trial import TrialConfig

# Raise when the same config comes to mean another training: old results are then not reused.
LEARNING_VERSION = 1
# Fields that came later: at their default they leave the ids of earlier results as they were.
ADDED = {"compile", "crop", "interpolation", "teacher", "teacher_digest", "teacher_weight"}
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any, length: int = 12) -> str:
    """First `length` hex digits of the SHA-256 of the canonical JSON (key order is moot)."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:length]


def trial_id(config: TrialConfig, data_fingerprint: str) -> str:
    """12 hex digits: what is learned, from which data. How it runs does not change it."""
    learned = _learned(config)
    return digest({"trial": learned, "data": data_fingerprint, "version": version_of(config)})


def family_id(config: TrialConfig, data_fingerprint: str) -> str:
    """12 hex digits: the same without seed and fold; a family's trials differ in nothing else."""
    learned = _learned(config, {"seed": True, "split": {"fold"}})
    return digest({"family": learned, "data": data_fingerprint, "version": version_of(config)})


def version_of(config: TrialConfig) -> int:
    """LEARNING_VERSION, and one more where only some configs have come to mean another training:
    TrivialAugment shifts by 32 px in place of the whole side, a crop keeps all of crop_scale.
    """
    augment = config.augment
    is_other = (augment.trivial and config.image_size > 32) or 0.75 < augment.crop_scale < 1
    return LEARNING_VERSION + is_other


def _learned(config: TrialConfig, exclude: dict[str, Any] | None = None) -> dict[str, Any]:
    plain = {n for n in ADDED if getattr(config, n) == TrialConfig.model_fields[n].default}
    if config.filter == "bicubic":  # what `auto` says of all that asks for nothing else
        plain.add("interpolation")
    learned = config.model_dump(mode="json", exclude=exclude)
    return {name: value for name, value in learned.items() if name not in plain}
