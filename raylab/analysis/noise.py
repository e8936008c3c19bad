"""From out-of-sample probabilities and given labels to how labels are wrong: matrix, rate, ceiling.

N = images, K = classes, i = true class, j = given class.

Counting disagreements (cleanlab's confident joint) takes a weak model's mistakes for label noise:
on toy faces with 30 % wrong labels and a model that is right on 83 %, it says 38 %. Here both are
fitted at once, as psychophysics fits a lapse rate beside a threshold: the model's own doubt fades
where it is sure, label noise stays. The likelihood is the forward model of Patrini et al. 2017
("Making Deep Neural Networks Robust to Label Noise"), P(given j | image) = Σ_i q_i(image) T_ij,
where q is the model's output after matrix scaling (Guo et al. 2017) and T the noise matrix.
Where two classes are swapped, log probabilities say little of the truth: a model that learned from
labels has their noise in its output. So the first fit's matrix is taken out of the output, and the
fit is made once more. It assumes that noise depends on the true class and not on the single image.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

SCALING_PENALTY = 10.0  # holds the matrix near a temperature; 1 to 100 gave the same rates
BIAS_PENALTY = 0.1
PSEUDO_COUNT = 1.0  # images per true class, spread over the given ones: no zero in the matrix
SMALLEST_PROB = 1e-4  # below, a model's log probability is bravado
FLATTEST = 2 * BIAS_PENALTY  # the smallest curvature that the penalties alone would give
UNMIXED_FLOOR = 0.01  # after taking the noise out; 0.003 sees more noise than there is, 0.03 less
SMALLEST_SINGULAR = 0.1  # of the largest: what the noise has wiped out is not blown up again
MAX_STEPS = 300


@dataclass(frozen=True)
class NoiseFit:
    """How labels came about, as far as these probabilities tell."""

    matrix: Array
    """(K, K), rows add up to 1: P(given j | true i)."""
    clean: Array
    """(N, K): P(true class | image), the label not looked at."""
    true: Array
    """(N, K): P(true class | image and given label)."""
    right: Array
    """(N,): P(the given label is right)."""
    doubt: float
    """Half of what the second fit changed in the rate: what the form of the model is good for."""
    unmixed: Array
    """(N, K): the model's output without the noise of its labels, as the last fit read it."""
    parameters: Array
    """Where the likelihood is highest; what they are, `bootstrap_rates` knows."""

    @property
    def rate(self) -> float:
        """Share of wrong labels among these images."""
        return float(1 - self.right.mean())

    @property
    def ceiling(self) -> float:
        """Accuracy that a perfect classifier of the true classes reaches against these labels."""
        return float(self.right.mean())


def fit_noise(probs: npt.NDArray[np.floating], labels: Labels) -> NoiseFit:
    """The noise matrix and every image's true class, by penalised maximum likelihood.

    probs: float (N, K) of models that did not train on the image; labels: int64 (N,) as given.
    """
    first = _fit(probs.astype(np.float64), labels)
    second = _fit(_without_noise(probs.astype(np.float64), first.matrix), labels)
    return replace(second, doubt=abs(second.rate - first.rate) / 2)


def _fit(probs: Array, labels: Labels) -> NoiseFit:
    likelihood = _Likelihood(probs, labels, np.ones(len(labels)))
    found = minimize(
        likelihood,
        likelihood.start(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_STEPS},
    )
    _, _, _, matrix = likelihood.unpack(found.x)
    clean, true = likelihood.posteriors(found.x)
    right = true[np.arange(len(labels)), labels]
    return NoiseFit(matrix, clean, true, right, 0.0, probs, found.x)


def _without_noise(probs: Array, matrix: Array) -> Array:
    """(N, K) q with q @ matrix = probs, as far as probabilities allow."""
    inverse = np.linalg.pinv(matrix, rcond=SMALLEST_SINGULAR)
    unmixed: Array = np.clip(probs @ inverse, UNMIXED_FLOOR, None)
    unmixed /= unmixed.sum(axis=1, keepdims=True)
    return unmixed


def bootstrap_rates(
    labels: Labels, fitted: NoiseFit, num: int = 200, seed: int = 0
) -> tuple[Array, Array]:
    """On redrawn images (num, K + 1) noise rates, per given class, then overall; and (num, K, K)
    P(given j | true i).

    Each redraw takes one Newton step from the fit instead of a fit of its own (the one-step
    bootstrap of Andrews 2002): about as wide as with full refits, fifty times as fast.
    A given class that a draw has no image of is NaN there.
    """
    rng = np.random.default_rng(seed)
    num_images, num_classes = fitted.clean.shape
    likelihood = _Likelihood(fitted.unmixed, labels, np.ones(num_images))
    inverse = _inverse_hessian(likelihood, fitted.parameters)
    rates = np.empty((num, num_classes + 1))
    matrices = np.empty((num, num_classes, num_classes))
    for row, matrix in zip(rates, matrices, strict=True):
        drawn = rng.multinomial(num_images, np.full(num_images, 1 / num_images))
        likelihood.weights = drawn.astype(np.float64)
        _, gradient = likelihood(fitted.parameters)
        _, true = likelihood.posteriors(fitted.parameters - inverse @ gradient)
        right = true[np.arange(num_images), labels]
        row[:-1] = wrong_per_class(right, labels, num_classes, likelihood.weights)
        row[-1] = 1 - np.average(right, weights=likelihood.weights)
        counts = (true * likelihood.weights[:, None]).T @ likelihood.given
        matrix[:] = counts / np.maximum(counts.sum(axis=1, keepdims=True), SMALLEST_PROB)
    return rates, matrices


def _inverse_hessian(likelihood: "_Likelihood", x: Array, step: float = 1e-4) -> Array:
    """From differences of the gradient; flat directions are kept from running away."""
    columns = [
        (likelihood(x + shift)[1] - likelihood(x - shift)[1]) / (2 * step)
        for shift in step * np.eye(len(x))
    ]
    values, vectors = np.linalg.eigh((np.array(columns) + np.array(columns).T) / 2)
    inverse: Array = (vectors / np.maximum(values, FLATTEST)) @ vectors.T
    return inverse


def wrong_per_class(
    right: Array, labels: Labels, num_classes: int, weights: Array | None = None
) -> Array:
    """(K,) share of wrong labels among the images that carry each label; NaN where none does."""
    weights = np.ones(len(labels)) if weights is None else weights
    counts = np.bincount(labels, weights, num_classes)
    wrong = np.bincount(labels, weights * (1 - right), num_classes)
    shares: Array = np.divide(wrong, counts, out=np.full(num_classes, np.nan), where=counts > 0)
    return shares


class _Likelihood:
    """The negative penalised log likelihood and its gradient, as scipy minimises it.

    Parameters: log temperature (1), class biases (K), deviation from the temperature (K, K),
    logits of the noise matrix (K, K).
    """

    def __init__(self, probs: Array, labels: Labels, weights: Array) -> None:
        """weights: (N,) how often each image counts."""
        logs = np.log(np.clip(probs, SMALLEST_PROB, 1.0))
        self.logs = logs - logs.mean(axis=1, keepdims=True)
        self.labels, self.weights, self.num_classes = labels, weights, probs.shape[1]
        self.given = np.eye(self.num_classes)[labels]
        self.pseudo = np.full((self.num_classes, self.num_classes), PSEUDO_COUNT / self.num_classes)

    def start(self) -> Array:
        k = self.num_classes
        matrix = 0.85 * np.eye(k) + 0.15 / k
        zeros = np.zeros(k + k * k)
        return np.concatenate([[np.log(2.0)], zeros, np.log(matrix).ravel()])

    def unpack(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """Scaling matrix, biases, deviation, noise matrix."""
        k = self.num_classes
        deviation = x[1 + k : 1 + k + k * k].reshape(k, k)
        scaling = np.exp(x[0]) * (np.eye(k) + deviation)
        matrix = softmax(x[1 + k + k * k :].reshape(k, k), axis=1)
        return scaling, x[1 : 1 + k], deviation, matrix

    def posteriors(self, x: Array) -> tuple[Array, Array]:
        scaling, bias, _, matrix = self.unpack(x)
        clean = softmax(self.logs @ scaling + bias, axis=1)
        joint = clean * matrix[:, self.labels].T
        return clean, joint / joint.sum(axis=1, keepdims=True)

    def __call__(self, x: Array) -> tuple[float, Array]:
        k = self.num_classes
        scaling, bias, deviation, matrix = self.unpack(x)
        clean = softmax(self.logs @ scaling + bias, axis=1)
        joint = clean * matrix[:, self.labels].T
        given_prob = joint.sum(axis=1)
        true = joint / given_prob[:, None]
        log_matrix = log_softmax(x[1 + k + k * k :].reshape(k, k), axis=1)
        loss = -(self.weights * np.log(given_prob)).sum() - (self.pseudo * log_matrix).sum()
        loss += SCALING_PENALTY * (deviation**2).sum() + BIAS_PENALTY * (bias**2).sum()
        pull = self.weights[:, None] * (true - clean)  # d loglik / d scaled logits, (N, K)
        by_scaling = self.logs.T @ pull
        counts = (self.weights[:, None] * true).T @ self.given + self.pseudo
        by_matrix = counts - counts.sum(axis=1, keepdims=True) * matrix
        by_deviation = np.exp(x[0]) * by_scaling - 2 * SCALING_PENALTY * deviation
        by_temperature = (by_scaling * scaling).sum()
        by_bias = pull.sum(axis=0) - 2 * BIAS_PENALTY * bias
        parts = [[by_temperature], by_bias, by_deviation.ravel(), by_matrix.ravel()]
        return float(loss), -np.concatenate(parts)
