"""`amp: auto` takes the half precision only where it was measured to be faster."""

from collections.abc import Callable

import pytest
import torch

from raylab.config.trial import TrialConfig
from raylab.training import precision

CPU = torch.device("cpu")


def clock(seconds: dict[torch.dtype | None, float]) -> Callable[..., Callable[[], float]]:
    return lambda device, dtype: lambda: seconds[dtype]


@pytest.mark.parametrize(("half", "chosen"), [(0.5, torch.bfloat16), (0.9, None), (3.0, None)])
def test_auto_wants_a_real_gain(
    half: float, chosen: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "step_seconds", clock({None: 1.0, torch.bfloat16: half}))
    precision.fastest_dtype.cache_clear()
    assert precision.resolve_amp(TrialConfig(), CPU) is chosen
    precision.fastest_dtype.cache_clear()


def test_a_gpu_without_bfloat16_takes_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {None: 1.0, torch.bfloat16: 2.0, torch.float16: 0.4}
    monkeypatch.setattr(precision, "step_seconds", clock(speeds))
    precision.fastest_dtype.cache_clear()
    assert precision.fastest_dtype(torch.device("cuda")) is torch.float16
    precision.fastest_dtype.cache_clear()


def test_the_probe_times_real_steps() -> None:
    run = precision.step_seconds(CPU, torch.bfloat16)
    assert 0 < run() < 10


@pytest.mark.parametrize(("amp", "dtype"), [("none", None), ("bf16", torch.bfloat16)])
def test_a_named_precision_is_not_probed(
    amp: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fastest_dtype", lambda device: pytest.fail("probed"))
    assert precision.resolve_amp(TrialConfig(amp=amp), CPU) is dtype
