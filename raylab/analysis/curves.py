"""From accuracies per epoch to what more epochs would bring, with the doubt about it.

T = epochs seen. The error is fitted as c + a·g(t) with a, c ≥ 0, where g falls from 1 to 0: a power
law or a (stretched) exponential, the forms that learning-curve studies find to fit best (Domhan et
al. 2015; Viering and Loog 2022). No form is known to be the right one, so each counts by its Akaike
weight, and the interval is over forms and over redrawn residuals.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import linregress, t

Array = npt.NDArray[np.float64]

MIN_EPOCHS = 6
NUM_DRAWS = 200
STRETCHES = (1.0, 0.6)


@dataclass(frozen=True)
class Extrapolation:
    """How the validation accuracy would change with `more_epochs` more, as shares."""

    more_epochs: int
    gain: float
    low: float
    high: float
    """95 % interval over forms and residuals."""
    limit: float
    """Accuracy that the curve tends to."""
    form: str
    """The form that weighs most."""


@dataclass(frozen=True)
class Trend:
    """The straight line through the last third of the curve, as share per epoch."""

    slope: float
    low: float
    high: float
    """95 % t interval."""

    @property
    def is_rising(self) -> bool:
        """Whether the curve still climbs beyond its noise."""
        return self.low > 0

    @property
    def is_falling(self) -> bool:
        """Whether the curve falls beyond its noise."""
        return self.high < 0


def last_trend(accuracies: Array) -> Trend:
    """accuracies: (T,) per epoch; T at least MIN_EPOCHS."""
    last = accuracies[-max(4, len(accuracies) // 3) :]
    line = linregress(np.arange(len(last)), last)
    half = float(t.ppf(0.975, len(last) - 2) * line.stderr)
    return Trend(float(line.slope), float(line.slope) - half, float(line.slope) + half)


def extrapolate(accuracies: Array, more_epochs: int, seed: int = 0) -> Extrapolation:
    """What `more_epochs` more would bring if the curve went on as it went.

    accuracies: (T,) per epoch, shares, T at least MIN_EPOCHS; a mean over seeds is smoother.
    """
    num_seen = len(accuracies)
    epochs = np.arange(1, num_seen + 1, dtype=np.float64)
    later = float(num_seen + more_epochs)
    errors = 1 - accuracies
    forms = _forms(epochs, later)
    fits = [_best_fit(errors[None], *form) for form in forms.values()]
    weights = _akaike_weights(np.array([fit.squares[0] for fit in fits]), num_seen)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(NUM_DRAWS, weights)
    gains = [np.empty(0)]
    for (form, fit), count in zip(zip(forms.values(), fits, strict=True), counts, strict=True):
        if count == 0:
            continue
        residuals = errors - fit.fitted[0]
        scale = np.sqrt(num_seen / (num_seen - 3))  # three parameters have shrunk the residuals
        drawn = rng.choice(scale * residuals, size=(int(count), num_seen))
        gains.append(_best_fit(fit.fitted[0] + drawn, *form).gain)
    low, high = np.quantile(np.concatenate(gains), [0.025, 0.975])
    best = int(weights.argmax())
    return Extrapolation(
        more_epochs=more_epochs,
        gain=float(sum(w * fit.gain[0] for w, fit in zip(weights, fits, strict=True))),
        low=float(low),
        high=float(high),
        limit=float(1 - fits[best].floor[0]),
        form=list(forms)[best],
    )


@dataclass(frozen=True)
class _Fit:
    """Per curve (B of them) its best fit of one form."""

    squares: Array
    """(B,) sum of squared residuals."""
    fitted: Array
    """(B, T)"""
    gain: Array
    """(B,) fall of the error from the last epoch to the later one."""
    floor: Array
    """(B,) the error that is left in the end."""


def _forms(epochs: Array, later: float) -> dict[str, tuple[Array, Array]]:
    """Per form its g at the seen epochs (S, T) and at the later one (S,), over a grid of shapes."""
    powers = np.linspace(0.1, 3.0, 40)[:, None]
    scales = np.geomspace(0.5, 4 * len(epochs), 60)[:, None]
    forms = {"power law": (epochs**-powers, (later**-powers)[:, 0])}
    for stretch in STRETCHES:
        name = "exponential" if stretch == 1 else "stretched exponential"
        seen = np.exp(-((epochs / scales) ** stretch))
        forms[name] = (seen, np.exp(-((later / scales[:, 0]) ** stretch)))
    return forms


def _best_fit(errors: Array, seen: Array, later: Array) -> _Fit:
    """errors: (B, T). For each shape the least squares line in g, then the best shape per curve."""
    centred = seen - seen.mean(axis=1, keepdims=True)  # (S, T)
    spread = (centred**2).sum(axis=1)
    slopes = np.maximum(errors @ centred.T / spread, 0)  # (B, S): an error does not grow by design
    floors = errors.mean(axis=1, keepdims=True) - slopes * seen.mean(axis=1)
    below = floors < 0  # an error below 0 in the end: through 0 instead
    slopes = np.where(below, np.maximum(errors @ seen.T / (seen**2).sum(axis=1), 0), slopes)
    floors = np.where(below, 0.0, floors)
    fitted = floors[:, :, None] + slopes[:, :, None] * seen  # (B, S, T)
    squares = ((errors[:, None] - fitted) ** 2).sum(axis=2)
    best = squares.argmin(axis=1)
    rows = np.arange(len(errors))
    slope = slopes[rows, best]
    return _Fit(
        squares=squares[rows, best],
        fitted=fitted[rows, best],
        gain=slope * (seen[best, -1] - later[best]),
        floor=floors[rows, best],
    )


def _akaike_weights(squares: Array, num_points: int) -> Array:
    """All forms have three parameters, so that only the fit counts."""
    scores = num_points * np.log(np.maximum(squares, 1e-12) / num_points)
    weights: Array = np.exp(-(scores - scores.min()) / 2)
    weights /= weights.sum()
    return weights
