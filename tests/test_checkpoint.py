"""A kept model is the model that was trained."""

from pathlib import Path

import pytest
import torch

from raylab.config.trial import TrialConfig
from raylab.training.checkpoint import load_model, save_model
from raylab.training.model import build_model


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_a_saved_model_loads_with_the_same_logits_and_classes(tmp_path: Path, model: str) -> None:
    config = TrialConfig(model=model, image_size=32, channels=1, drop_rate=0.3)
    torch.manual_seed(0)
    trained = build_model(config, 3).eval()
    classes = ("기쁨", "sad", "angry")
    save_model(tmp_path, config, classes, trained.state_dict(), "bfloat16")
    torch.manual_seed(1)  # the loaded weights come from the file, not from initialisation
    kept = load_model(tmp_path)
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(kept.network(images), trained(images))
    assert (kept.config, kept.classes) == (config, classes)
    assert (kept.mean, kept.std, kept.amp) == ((0.5,), (0.25,), torch.bfloat16)
