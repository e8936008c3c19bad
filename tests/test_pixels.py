"""Images on the device: what is told of a device is not what tensors say of it."""

import pytest
import torch

from raylab.config.trial import TrialConfig
from raylab.training.pixels import RESIDENT_FRACTION, Pixels, _fits


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_images_that_are_where_they_are_wanted_are_not_copied_there(name: str) -> None:
    """`cuda` is `cuda:0`, though torch calls them different; so are `cpu` and `cpu:0`."""
    images = torch.arange(3 * 4 * 4 * 1, dtype=torch.uint8).view(3, 4, 4, 1)
    pixels = Pixels(images, TrialConfig(channels=1), torch.device(name))
    taken = pixels.take(torch.tensor([2, 0]))
    assert torch.equal(taken, images[[2, 0]].permute(0, 3, 1, 2) / 255)


@pytest.mark.parametrize(
    ("kept", "used", "fits"), [(0, 0, False), (600, 0, True), (600, 600, False)]
)
def test_what_torch_keeps_of_an_earlier_trial_counts_as_free(
    kept: int, used: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (400, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: kept)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: used)
    images = torch.zeros((int(1000 * RESIDENT_FRACTION), 1, 1, 1), dtype=torch.uint8)
    assert _fits(images, torch.device("cuda")) is fits
