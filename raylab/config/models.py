"""Which model names exist, read from timm's sources: importing timm would load torch (seconds)."""

import importlib.util
import re
from functools import lru_cache
from pathlib import Path

from raylab.config.choices import did_you_mean

OWN_MODELS = frozenset({"cnn"})
HUB_PREFIXES = ("hf-hub:", "hf_hub:", "local-dir:")

_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_TAGGED = re.compile(r"['\"](\w+\.\w+)['\"]\s*:")
_DEPRECATED = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
_DEPRECATED_NAME = re.compile(r"['\"](\w+)['\"]\s*:")


@lru_cache(maxsize=1)
def timm_models() -> tuple[frozenset[str], frozenset[str]]:
    """Architecture names, and names with a weights tag; both empty when timm is not installed."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset(), frozenset()
    names: set[str] = set()
    tagged: set[str] = set()
    for file in Path(spec.submodule_search_locations[0], "models").glob("*.py"):
        source = file.read_text(encoding="utf-8")
        names.update(_REGISTERED.findall(source))
        tagged.update(_TAGGED.findall(source))
        for block in _DEPRECATED.findall(source):
            names.update(_DEPRECATED_NAME.findall(block))
    return frozenset(names), frozenset(tagged)


def model_problem(name: str) -> str | None:
    """Why `name` is no model, or None."""
    if name in OWN_MODELS or name.startswith(HUB_PREFIXES):
        return None
    names, tagged = timm_models()
    if not names:
        return None  # timm itself will say
    base, _, tag = name.partition(".")
    if base not in names:
        hint = did_you_mean(base, names | OWN_MODELS)
        return f"{name!r} is neither cnn nor a timm model{hint}"
    tags = sorted(known for known in tagged if known.startswith(f"{base}."))
    if tag and tags and name not in tagged:  # timm makes a few tags in loops: those have no list
        return f"{name!r} has no such weights tag; {base} has {', '.join(tags)}"
    return None
