"""Which part of a network a parameter belongs to, and which parts learn; it knows no data.

`layer` counts a network's parts from the input (0) to the classifier (the highest).
"""

from collections.abc import Iterable

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's modules, such as ("fc",)."""
    named = getattr(model, "pretrained_cfg", {}).get("classifier")
    if isinstance(named, str):
        return (named,)
    if named:
        return tuple(named)
    head = model.get_classifier()  # type: ignore[operator]
    return tuple(name for name, module in model.named_modules() if module is head)


def zero_classifier(model: nn.Module) -> None:
    """A new classifier on pretrained weights says at first that all classes are alike, and so
    leaves them whole until it has learned (Kolesnikov et al. 2020).

    timm's own start of EfficientNet's, for 7 classes, gives a loss of 4 to 5 nats: three epochs on
    1,400 faces reached 25 % so, and 40 % from zero.
    """
    heads = classifier_names(model)
    for name, parameter in model.named_parameters():
        if is_below(name, heads):
            nn.init.zeros_(parameter)


def is_below(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a parameter belongs to one of these modules; `layer1` is not above `layer10.bias`."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def layer_of(model: nn.Module, *, coarse: bool) -> dict[str, int]:
    """By parameter name, its layer in timm's own grouping: blocks, or whole stages if `coarse`;
    the classifier is one of its own.

    Raises ValueError where the model names no order of its layers.
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        kind = type(model).__name__
        raise ValueError(f"layer_decay and unfreeze_epochs: {kind} names no order of its layers")
    layers: dict[str, int] = group_parameters(model, matcher(coarse=coarse), reverse=True)
    heads = classifier_names(model)
    body = max(layer for name, layer in layers.items() if not is_below(name, heads))
    return layers | {name: body + 1 for name in layers if is_below(name, heads)}


def freeze(model: nn.Module, train_layers: str | tuple[str, ...]) -> None:
    """Leave only the parameters below the given names learning; `layer1` is not `layer10`."""
    if train_layers == "all":
        return
    prefixes = classifier_names(model) if train_layers == "head" else tuple(train_layers)
    parameters = dict(model.named_parameters())
    strangers = [p for p in prefixes if not any(is_below(name, (p,)) for name in parameters)]
    if strangers:
        top = ", ".join(dict.fromkeys(name.split(".")[0] for name in parameters))
        raise ValueError(
            f"train_layers: no parameter's name begins with {', '.join(strangers)}; "
            f"the model's parts are {top}"
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(is_below(name, prefixes))


def check_classifier(model: nn.Module) -> None:
    """ValueError where the classifier is zero and stays so: no gradient passes through it, and no
    layer below would learn.
    """
    heads = classifier_names(model)
    parameters = [p for name, p in model.named_parameters() if is_below(name, heads)]
    weights = [p for p in parameters if p.ndim >= 2]  # a bias passes nothing on
    if weights and not any(p.requires_grad or p.any() for p in weights):
        names = ", ".join(heads)
        raise ValueError(
            f"train_layers: leaves out the classifier ({names}), which begins at zero, so that "
            f"nothing would learn; add {names}"
        )


def freeze_batchnorm(model: nn.Module) -> None:
    """No BatchNorm learns; ValueError where there is none."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        raise ValueError(f"freeze_bn: {type(model).__name__} has no BatchNorm")
    for norm in norms:
        norm.requires_grad_(False)


def set_train_mode(model: nn.Module) -> None:
    """train(), but BatchNorm in frozen parts keeps its statistics: they belong to its weights."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()


class Unfreezing:
    """Gradual unfreezing (Howard and Ruder 2018): first the classifier learns alone, and every
    `unfreeze_epochs` epochs the stage before those that learn joins them; 0 = all from the start.

    Made after the optimiser, which holds all that will ever learn.
    """

    def __init__(self, model: nn.Module, unfreeze_epochs: int) -> None:
        self.unfreeze_epochs = unfreeze_epochs
        self.stages: list[list[nn.Parameter]] = []
        self.num_open = 0
        if unfreeze_epochs == 0:
            return
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        layers = layer_of(model, coarse=True)
        for layer in sorted({layers[name] for name in learning}, reverse=True):
            self.stages.append([p for name, p in learning.items() if layers[name] == layer])

    def begin(self, epoch: int) -> bool:
        """Before an epoch (1-based): True if more parameters learn now than before."""
        if self.unfreeze_epochs == 0:
            return False
        before = self.num_open
        self.num_open = min(1 + (epoch - 1) // self.unfreeze_epochs, len(self.stages))
        for place, stage in enumerate(self.stages):
            for parameter in stage:
                parameter.requires_grad_(place < self.num_open)
        return self.num_open != before
