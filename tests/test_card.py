"""A model card says what the results know of a model's origin."""

from raylab.config.trial import TrialConfig
from raylab.results.card import _licence
from raylab.results.record import record_from


def test_a_card_names_the_weights_at_the_start_of_a_line_of_trials() -> None:
    first = TrialConfig(model="resnet18", pretrained=True)
    parent, child = (
        record_from(config, "d", "s", [], "failed")
        for config in (first, TrialConfig(model="resnet18", pretrained="trial:0123456789ab"))
    )
    known = {"0123456789ab": parent, "ba9876543210": child}
    for name, said in (("0123456789ab", "timm's resnet18"), ("f" * 12, f"trial:{'f' * 12}")):
        config = TrialConfig(model="resnet18", pretrained=f"trial:{name}")
        assert f"began with ({said})" in _licence(config, known)
    grandchild = TrialConfig(model="resnet18", pretrained="trial:ba9876543210")
    assert "began with (timm's resnet18)" in _licence(grandchild, known)
