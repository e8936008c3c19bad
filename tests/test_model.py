"""Models: what learns, what stays frozen, and refusals where a field would do nothing."""

import json
from functools import partial

import pytest
import safetensors.torch
import torch

from raylab.config.files import DESCRIPTION, WEIGHTS
from raylab.config.trial import TrialConfig
from raylab.training.checkpoint import save_model
from raylab.training.layers import classifier_names, set_train_mode
from raylab.training.model import build_model, compiled, normalization, pretrained_filter

torch.set_num_threads(1)

SMALL = "resnet10t"  # timm's smallest ResNet


def build(num_classes=7, **fields):
    return build_model(TrialConfig(**{"model": "cnn", "image_size": 32} | fields), num_classes)


def learning(model):
    return {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("model", ["cnn", SMALL, "vit_tiny_patch16_224"])
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_one_column_per_class(model, channels):
    logits = build(model=model, channels=channels).eval()(torch.rand(2, channels, 32, 32))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("model", ["cnn", SMALL])
def test_head_trains_the_classifier_only(model):
    assert learning(build(model=model, train_layers="head")) == {"fc"}


def test_prefixes_train_what_they_name():
    assert learning(build(model=SMALL, train_layers=["layer4", "fc"])) == {"layer4", "fc"}
    assert len(learning(build())) == 5


def test_a_prefix_that_names_nothing_is_refused_with_the_parts_there_are():
    with pytest.raises(ValueError, match=r"begins with layer, nope; .*parts are layer1, layer2"):
        build(train_layers=["layer", "fc", "nope"])


def test_batchnorm_of_frozen_parts_keeps_its_statistics_while_training():
    model = build(train_layers=["layer4", "fc"])
    set_train_mode(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.rand(4, 3, 32, 32))
    changed = {
        name.split(".")[0]
        for name, buffer in model.named_buffers()
        if not torch.equal(buffer, before[name])
    }
    assert changed == {"layer4"}
    assert model.dropout.training


@pytest.mark.parametrize("model", ["cnn", SMALL])
def test_drop_rate_makes_training_outputs_random(model):
    model = build(model=model, drop_rate=0.5)
    set_train_mode(model)
    images = torch.rand(4, 3, 32, 32)
    assert not torch.equal(model(images), model(images))


def test_rates_that_a_model_would_ignore_are_refused():
    with pytest.raises(ValueError, match="drop_path_rate: model cnn has no stochastic depth"):
        build(drop_path_rate=0.1)
    with pytest.raises(ValueError, match=r"does not take an option.*drop_path_rate"):
        build(model="densenet121", drop_path_rate=0.1)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_weights_file_is_loaded_and_a_strange_classifier_stays_new(tmp_path, kind):
    torch.manual_seed(1)
    donor = build(num_classes=5)
    path = tmp_path / f"donor.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "safetensors":
        safetensors.torch.save_file(donor.state_dict(), path)
    else:
        torch.save({"state_dict": donor.state_dict()}, path)
    same = build(num_classes=5, pretrained=str(path))
    assert torch.equal(same.fc.weight, donor.fc.weight)
    other = build(num_classes=7, pretrained=str(path))
    assert torch.equal(other.layer3[0].weight, donor.layer3[0].weight)
    assert other.fc.weight.shape[0] == 7
    grey = build(num_classes=5, channels=1, pretrained=str(path))
    assert torch.allclose(grey.layer1[0].weight, donor.layer1[0].weight.sum(1, keepdim=True))


def test_a_grey_model_begins_one_that_sees_colours_and_says_the_same_of_grey_images(tmp_path):
    torch.manual_seed(1)
    grey = build(channels=1)
    path = tmp_path / "grey.safetensors"
    safetensors.torch.save_file(grey.state_dict(), path)
    colour = build(channels=3, pretrained=str(path))
    images = torch.rand(2, 1, 32, 32)
    said = grey.eval()(images)
    torch.testing.assert_close(colour.eval()(images.expand(-1, 3, -1, -1)), said)


@pytest.mark.parametrize(("kept", "wanted"), [(3, 1), (1, 3)])
@pytest.mark.parametrize("model", ["cnn", SMALL])
def test_kept_weights_are_fed_as_they_were_trained_at_other_channels_too(
    tmp_path, model, kept, wanted
):
    description = {"mean": [0.1, 0.2, 0.6][:kept], "std": [0.2, 0.2, 0.5][:kept]}
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    (tmp_path / WEIGHTS).touch()
    config = TrialConfig(model=model, channels=wanted, pretrained=str(tmp_path / WEIGHTS))
    mean, std = normalization(config)
    expected = ([0.3], [0.3]) if wanted == 1 else ([0.1] * 3, [0.2] * 3)
    assert mean == pytest.approx(expected[0])
    assert std == pytest.approx(expected[1])


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ValueError, match="holds other weights than the model"):
        build(pretrained=str(path))
    with pytest.raises(ValueError, match="does not exist"):
        build(pretrained=str(tmp_path / "missing.pt"))
    with pytest.raises(ValueError, match="cnn has no pretrained weights"):
        build(pretrained=True)


def test_classifiers_are_found_by_name():
    assert classifier_names(build(model=SMALL)) == ("fc",)
    assert classifier_names(build(model="mobilenetv3_small_050")) == ("classifier",)


def test_pretrained_models_are_fed_as_they_were_trained():
    assert normalization(TrialConfig(channels=3)) == ((0.5,) * 3, (0.25,) * 3)
    mean, std = normalization(TrialConfig(model="resnet18", pretrained=True))
    assert mean == pytest.approx((0.485, 0.456, 0.406))
    mean, std = normalization(TrialConfig(model="resnet18", pretrained=True, channels=1))
    assert len(mean) == len(std) == 1


def test_the_filter_of_pretrained_weights_is_their_own(tmp_path):
    assert pretrained_filter(TrialConfig(model="resnet18", pretrained=True)) == "bicubic"
    vgg = TrialConfig(model="vgg19_bn", pretrained=True)
    assert pretrained_filter(vgg) == "bilinear"  # torchvision's
    save_model(tmp_path, TrialConfig(model="vgg19_bn", interpolation="bicubic"), ("a", "b"), {})
    kept = vgg.model_copy(update={"pretrained": str(tmp_path / WEIGHTS)})
    assert pretrained_filter(kept) == "bicubic"  # what raylab wrote beside the weights


def test_every_config_that_a_process_trains_is_compiled(monkeypatch):
    """Graphs hang on a function, here Cnn.forward, and torch would stop at eight."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    for tenths in range(10):
        compiled(build(drop_rate=tenths / 10).train())(torch.rand(2, 3, 32, 32))
    assert len(graphs) == 10
