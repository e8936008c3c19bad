"""From a kept model to one file that other programs run, checked against the model itself.

B = images of a batch (any number), C = channels, S = image_size, K = classes.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from raylab import __version__
from raylab.errors import CannotFinish, RaylabError
from raylab.images.crop import MARGIN_FRAC
from raylab.storage import UNFINISHED_SUFFIX, appearing_whole
from raylab.training.checkpoint import KeptModel
from raylab.training.evaluate import views

TOLERANCE = 1e-4
"""By how much a probability of the exported model may differ."""
CHECKED_BATCHES = (1, 5)
INPUT, OUTPUT = "images", "probabilities"

Batch = npt.NDArray[np.float32]


class Deployed(nn.Module):
    """The kept model with all that surrounds it: normalisation, test-time augmentation, softmax."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, kept: KeptModel, tta: str) -> None:
        super().__init__()
        self.network, self.tta = kept.network, tta
        self.register_buffer("mean", torch.tensor(kept.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(kept.std).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: float32 (B, C, S, S), 0..1; gives float32 (B, K), which add up to 1."""
        normal = (images - self.mean) / self.std
        by_view = [self.network(view).softmax(1) for view in views(normal, self.tta)]
        return torch.stack(by_view).mean(0)


def deployed(kept: KeptModel, *, with_tta: bool) -> Deployed:
    """On the CPU, in float32 and eval mode."""
    return Deployed(kept, kept.config.tta if with_tta else "none").cpu().float().eval()


def facts(kept: KeptModel, tta: str) -> dict[str, str]:
    """What a program must know to feed the model and to read its answer; all text."""
    size, channels = kept.config.image_size, kept.config.channels
    return {
        "classes": json.dumps(list(kept.classes), ensure_ascii=False),
        "input": f"{INPUT}: float32 (B, {channels}, {size}, {size}), 0..1",
        "preprocessing": preprocessing(kept),
        "output": f"{OUTPUT}: float32 (B, {len(kept.classes)})",
        "tta": tta,
        "raylab_version": __version__,
    }


def preprocessing(kept: KeptModel) -> str:
    """What comes before the graph; normalisation is inside it."""
    size = kept.config.image_size
    colour = "grey" if kept.config.channels == 1 else "RGB"
    square = "central square"
    if kept.config.crop == "face":
        square = (
            f"largest face (MTCNN of facenet-pytorch, the square of {1 + 2 * MARGIN_FRAC:g} times "
            "the longer side of its box around the middle, eyes levelled; where there is no face, "
            "the central square)"
        )
    return (
        f"upright image, its {square}, resized to {size} x {size} px "
        f"({kept.config.filter}, antialiased), {colour}, divided by 255"
    )


def export_torch(kept: KeptModel, file: Path, *, with_tta: bool) -> float:
    """Writes a torch.export program (`torch.export.load`); the largest difference of a probability.

    Raises CannotFinish where the model cannot be traced, or answers otherwise than before.
    """
    model = deployed(kept, with_tta=with_tta)
    batch = torch.export.Dim("batch", min=1, max=4096)
    extra = {f"{name}.txt": text for name, text in facts(kept, model.tta).items()}
    with exported(kept, file) as unfinished:
        with torch.no_grad():
            program = torch.export.export(
                model, (example(kept, 2),), dynamic_shapes=({0: batch},), strict=False
            )
        torch.export.save(program, unfinished, extra_files=extra)
        again = torch.export.load(unfinished).module()
        return check(kept, model, lambda images: again(torch.from_numpy(images)).numpy())


@contextmanager
def exported(kept: KeptModel, file: Path) -> Iterator[Path]:
    """Where to write and check what then stands at `file`; if that fails, what stood there stays.

    Raises CannotFinish for whatever the libraries raise.
    """
    unfinished = file.with_name(f"{UNFINISHED_SUFFIX}-{file.name}")  # which must end as it does
    try:
        with appearing_whole(str(file), str(unfinished)):
            yield unfinished
    except RaylabError:
        raise
    except Exception as error:  # torch's tracer and the runtimes raise anything at all
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CannotFinish(f"model {kept.config.model} cannot be exported: {reason}") from error


def check(kept: KeptModel, model: Deployed, run: Callable[[Batch], Batch]) -> float:
    """The largest difference on random images of several batch sizes; CannotFinish beyond
    TOLERANCE.
    """
    differences = []
    for num_images in CHECKED_BATCHES:
        images = example(kept, num_images)
        with torch.no_grad():
            wanted = model(images).numpy()
        differences.append(float(np.abs(run(images.numpy()) - wanted).max()))
    worst = max(differences)
    if not worst <= TOLERANCE:
        text = f"the exported model's probabilities differ by {worst:.2g} (at most {TOLERANCE:g})"
        raise CannotFinish(f"{text}; it was not written")
    return worst


def example(kept: KeptModel, num_images: int) -> torch.Tensor:
    """float32 (num_images, C, S, S), 0..1: always the same noise."""
    generator = torch.Generator().manual_seed(num_images)
    size = kept.config.image_size
    return torch.rand((num_images, kept.config.channels, size, size), generator=generator)
