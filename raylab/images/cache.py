"""Where prepared images are kept, and whether a variant is among them; no Ray."""

import os
from pathlib import Path

from raylab.storage import Folder

MANIFEST = "manifest.json"
"""Written last: a variant that has one was prepared to the end."""


def cache_folder(results: str) -> Folder:
    """Where prepared images are kept: RAYLAB_CACHE, else beside shared results, else the user's."""
    given = os.environ.get("RAYLAB_CACHE")
    if given:
        return Folder(given)
    if not Folder(results).is_local:
        base, mark, options = results.partition("?")  # s3://bucket/run?region=…
        scheme, _, path = base.rstrip("/").partition("://")
        bucket, *keys = path.split("/")
        return Folder(f"{scheme}://{'/'.join([bucket, *keys[:-1]])}/raylab-cache{mark}{options}")
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Folder(Path(home) / "raylab")


def variant_folder(cache: Folder, variant_id: str) -> Folder:
    """The folder of one variant."""
    return cache.child(f"prepared/{variant_id}")


def is_prepared(cache: Folder, variant_id: str) -> bool:
    """Whether the variant was prepared to the end."""
    return variant_folder(cache, variant_id).exists(MANIFEST)
