"""Layers: their order, what is frozen when, and at which share of the lr each learns."""

import pytest
import torch
from torch import nn

from raylab.config.trial import TrialConfig
from raylab.training.layers import Unfreezing, classifier_names, layer_of, set_train_mode
from raylab.training.model import build_model
from raylab.training.optim import Schedule, build_optimizer

torch.set_num_threads(1)

PARTS = ["layer1", "layer2", "layer3", "layer4", "fc"]
MODELS = ["cnn", "resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050"]


def build(**fields: object) -> nn.Module:
    return build_model(TrialConfig.model_validate({"model": "cnn", "image_size": 32} | fields), 7)


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_layers_count_from_the_input_to_the_classifier(model: str, coarse: bool) -> None:
    network = build(model=model)
    layers = layer_of(network, coarse=coarse)
    assert list(layers) == [name for name, _ in network.named_parameters()]
    assert sorted(set(layers.values())) == list(range(max(layers.values()) + 1))
    last = {name.split(".")[0] for name, layer in layers.items() if layer == max(layers.values())}
    assert last == set(classifier_names(network))


def test_a_model_without_an_order_of_layers_says_so() -> None:
    with pytest.raises(ValueError, match="Linear names no order of its layers"):
        layer_of(nn.Linear(2, 2), coarse=True)


def lr_by_part(**fields: object) -> dict[str, float]:
    config = TrialConfig.model_validate(
        {"model": "cnn", "lr": 0.1, "lr_schedule": "constant"} | fields
    )
    model = build_model(config, 7)
    optimizer = build_optimizer(model, config)
    Schedule(config, optimizer, steps_per_epoch=4).set_lr(1, 0)
    part_of = {id(p): name.split(".")[0] for name, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert found.setdefault(part_of[id(parameter)], group["lr"]) == group["lr"]
            decayed = 1e-2 if parameter.ndim >= 2 else 0
            assert group["weight_decay"] == decayed
    return found


def test_layer_decay_lowers_the_lr_towards_the_input() -> None:
    found = lr_by_part(layer_decay=0.5)
    wanted = {part: 0.1 * 0.5 ** (4 - place) for place, part in enumerate(PARTS)}
    assert found == pytest.approx(wanted)


def test_the_head_may_learn_faster() -> None:
    found = lr_by_part(head_lr_scale=10)
    assert found.pop("fc") == pytest.approx(1.0)
    assert set(found.values()) == {0.1}
    both = lr_by_part(head_lr_scale=10, layer_decay=0.5)
    assert (both["fc"], both["layer4"]) == pytest.approx((1.0, 0.05))


def test_without_them_there_are_two_groups_at_one_lr() -> None:
    groups = build_optimizer(build(), TrialConfig(model="cnn")).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 1e-2), (1e-3, 0)]


def test_what_a_model_leaves_out_of_the_decay_is_not_decayed() -> None:
    model = build(model="vit_tiny_patch16_224")
    groups = build_optimizer(model, TrialConfig(weight_decay=0.1)).param_groups
    spared = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in spared and p.ndim >= 2}
    assert names == {"cls_token", "pos_embed"}


def learning(model: nn.Module) -> list[str]:
    names = (name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad)
    return list(dict.fromkeys(names))


def test_unfreezing_opens_a_stage_at_a_time_from_the_classifier() -> None:
    model = build()
    unfreezing = Unfreezing(model, 2)
    seen = [(unfreezing.begin(epoch), learning(model)) for epoch in range(1, 12)]
    opened = [(4 - i, 1 + 2 * i) for i in range(5)]
    for first, epoch in opened:
        assert seen[epoch - 1] == (True, PARTS[first:])
    assert [epoch for epoch, (changed, _) in enumerate(seen, 1) if changed] == [1, 3, 5, 7, 9]


def test_unfreezing_leaves_frozen_what_never_learns() -> None:
    model = build(train_layers=["layer3", "fc"])
    unfreezing = Unfreezing(model, 1)
    for epoch, wanted in ((1, ["fc"]), (2, ["layer3", "fc"]), (9, ["layer3", "fc"])):
        unfreezing.begin(epoch)
        assert learning(model) == wanted


def test_a_resumed_trial_opens_all_stages_that_were_open() -> None:
    model = build()
    assert Unfreezing(model, 1).begin(4)
    assert learning(model) == PARTS[1:]


def test_frozen_batchnorm_learns_nothing_and_all_else_does() -> None:
    model = build(freeze_bn=True)
    set_train_mode(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    torch.autograd.backward(model(torch.rand(4, 3, 32, 32)).square().sum())
    optimizer.step()
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) == 4
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name.rpartition(".")[0] in norms), name


def test_a_model_without_batchnorm_cannot_freeze_it() -> None:
    with pytest.raises(ValueError, match=r"freeze_bn: VisionTransformer has no BatchNorm"):
        build(model="vit_tiny_patch16_224", freeze_bn=True)
