"""`amp: auto` takes the half precision only where it was measured to be faster."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch

from raylab.config.trial import TrialConfig
from raylab.training import precision
from raylab.training.model import Cnn

CPU = torch.device("cpu")


def clock(seconds: dict[torch.dtype | None, float]) -> Callable[..., object]:
    return lambda device, config: lambda dtype, num_images: seconds[dtype]


@pytest.fixture(autouse=True)
def _nothing_was_measured() -> Iterator[None]:
    precision.fastest_dtype.cache_clear()
    yield
    precision.fastest_dtype.cache_clear()


@pytest.mark.parametrize(("half", "chosen"), [(0.5, torch.bfloat16), (0.9, None), (3.0, None)])
def test_auto_wants_a_real_gain(
    half: float, chosen: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "step_seconds", clock({None: 1.0, torch.bfloat16: half}))
    assert precision.resolve_amp(TrialConfig(), CPU) is chosen


def test_a_gpu_without_bfloat16_takes_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {None: 1.0, torch.bfloat16: 2.0, torch.float16: 0.4}
    monkeypatch.setattr(precision, "step_seconds", clock(speeds))
    assert precision.resolve_amp(TrialConfig(), torch.device("cuda")) is torch.float16


@pytest.mark.parametrize(
    ("has_bfloat16", "tried"), [(True, [torch.bfloat16, torch.float16]), (False, [torch.float16])]
)
def test_a_gpu_that_only_emulates_bfloat16_is_not_asked_for_it(
    has_bfloat16: bool, tried: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return has_bfloat16 or including_emulation

    seen: list[torch.dtype | None] = []

    def step(dtype: torch.dtype | None, num_images: int) -> float:
        seen.append(dtype)
        return 1.0

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(precision, "step_seconds", lambda device, config: step)
    assert precision.resolve_amp(TrialConfig(), torch.device("cuda")) is None
    assert list(dict.fromkeys(dtype for dtype in seen if dtype)) == tried


def test_a_half_precision_without_kernels_takes_for_ever_and_float32_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strange(*_: object) -> torch.Tensor:
        raise RuntimeError("no kernel for this type")

    monkeypatch.setattr(Cnn, "forward", strange)
    step = precision.step_seconds(CPU, TrialConfig(model="cnn", image_size=16))
    assert step(torch.bfloat16, 2) == math.inf
    with pytest.raises(RuntimeError, match="no kernel for this type"):
        step(None, 2)


def test_the_model_that_trains_is_the_one_that_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[TrialConfig] = []

    def step(device: torch.device, config: TrialConfig) -> Callable[..., float]:
        timed.append(config)
        return lambda dtype, num_images: 1.0

    monkeypatch.setattr(precision, "step_seconds", step)
    wide = TrialConfig(model="tf_efficientnet_lite0", image_size=96)
    for config in (wide, TrialConfig(model="cnn"), wide.model_copy(update={"lr": 1.0})):
        precision.resolve_amp(config, CPU)
    assert [(c.model, c.image_size) for c in timed] == [(wide.model, 96), ("cnn", 64)]


def test_the_probe_times_real_steps_and_leaves_no_trace_in_the_random_numbers() -> None:
    config = TrialConfig(model="cnn", image_size=16, channels=1)
    before = torch.get_rng_state()
    precision.resolve_amp(config, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    run = precision.step_seconds(CPU, config)
    assert 0 < run(torch.bfloat16, 4) < 10


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
    ],
)
def test_a_step_that_does_not_fit_takes_for_ever(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr(Cnn, "forward", full)
    assert precision.step_seconds(CPU, TrialConfig(model="cnn"))(None, 8) == math.inf


def test_nothing_is_chosen_where_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    never = dict.fromkeys(precision.AMP_DTYPES, math.inf)
    monkeypatch.setattr(precision, "step_seconds", clock(never))
    assert precision.resolve_amp(TrialConfig(), torch.device("cuda")) is None


@pytest.mark.parametrize(("half", "chosen"), [(0.5, torch.float16), (0.9, None)])
def test_as_much_of_the_batch_is_timed_as_fits(
    half: float, chosen: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def step(dtype: torch.dtype | None, num_images: int) -> float:
        tried.append(num_images)
        return math.inf if num_images > 32 else (half if dtype else 1.0)

    monkeypatch.setattr(precision, "step_seconds", lambda device, config: step)
    assert precision.resolve_amp(TrialConfig(batch_size=128), torch.device("cuda")) is chosen
    assert list(dict.fromkeys(tried)) == [128, 64, 32]


def test_what_the_probe_took_of_a_gpu_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def step(dtype: torch.dtype | None, num_images: int) -> float:
        told.append("step")
        return 1.0

    monkeypatch.setattr(precision, "step_seconds", lambda device, config: step)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("given back"))
    precision.resolve_amp(TrialConfig(), torch.device("cuda"))
    assert told[0] == "step"
    assert told[-1] == "given back"


@pytest.mark.parametrize(("amp", "dtype"), [("none", None), ("bf16", torch.bfloat16)])
def test_a_named_precision_is_not_probed(
    amp: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device, config: pytest.fail("probed"))
    assert precision.resolve_amp(TrialConfig(amp=amp), CPU) is dtype
