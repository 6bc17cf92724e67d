"""How likely a prompt asks for harm: a small classifier fitted on two lists of benchmark prompts.

Two views of a prompt, its words and (if a model is given) its pooled hidden states, each get a ridge regression; a
logistic regression on their leave-one-out predictions mixes them into a probability. No label of a pair is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from smidgen.errors import InvalidData
from smidgen.selection.texts import words

_PENALTIES = 10.0 ** np.arange(-2, 7)
_BLOCK = 4096  # prompts whose words are a dense matrix at one time


@dataclass(frozen=True, slots=True)
class Ridge:
    """score = (x - mean) @ weights + bias, for targets -1 and +1."""

    mean: np.ndarray
    weights: np.ndarray
    bias: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) @ self.weights + self.bias


@dataclass(frozen=True, slots=True)
class HarmfulnessClassifier:
    """A fitted classifier of prompts.

    Attributes:
        vocabulary: Word to inverse document frequency, for the view of the words.
        words: Ridge regression on the words.
        hidden: Ridge regression on the standardised hidden states, with their scale; None without a model.
        mix: Weights of the two scores and the intercept, logistic.
        accuracy: Share of the fitting prompts whose class is right when each is left out of its ridge regressions.
        n_prompts: Number of prompts fitted on.
    """

    vocabulary: Mapping[str, float]
    words: Ridge
    hidden: tuple[Ridge, np.ndarray] | None
    mix: np.ndarray
    accuracy: float
    n_prompts: int


def fit_harmfulness(
    harmful: Sequence[str],
    harmless: Sequence[str],
    *,
    hidden_harmful: np.ndarray | None = None,
    hidden_harmless: np.ndarray | None = None,
) -> HarmfulnessClassifier:
    """Fit on prompts of known class.

    Args:
        harmful: Prompts that ask for harm, at least two.
        harmless: Prompts that do not, at least two.
        hidden_harmful: Their pooled hidden states, [len(harmful), width]; both or neither.
        hidden_harmless: [len(harmless), width].

    Raises:
        InvalidData: Fewer than two prompts of a class.
        ValueError: Hidden states of only one class.
    """
    if min(len(harmful), len(harmless)) < 2:
        raise InvalidData(
            f"expected at least 2 harmful and 2 harmless prompts, got {len(harmful)} and {len(harmless)}; "
            "give longer prompt files."
        )
    if (hidden_harmful is None) != (hidden_harmless is None):
        raise ValueError("give the hidden states of both classes, or of neither")
    targets = np.repeat([1.0, -1.0], [len(harmful), len(harmless)])
    texts = [*harmful, *harmless]
    vocabulary = _inverse_document_frequency(texts)
    words_ridge, words_loo = _fit_ridge(_tfidf(texts, vocabulary), targets)
    views, hidden = [words_loo], None
    if hidden_harmful is not None and hidden_harmless is not None:
        states = np.vstack([hidden_harmful, hidden_harmless]).astype(np.float64)
        scale = np.maximum(states.std(0), 1e-6) * np.sqrt(states.shape[1])
        ridge, hidden_loo = _fit_ridge(states / scale, targets)
        hidden = (ridge, scale)
        views.append(hidden_loo)
    mix = _fit_logistic(np.column_stack(views), targets)
    right = (_mixed(views, mix) >= 0.5) == (targets > 0)
    return HarmfulnessClassifier(vocabulary, words_ridge, hidden, mix, float(right.mean()), len(texts))


def prompt_harmfulness(
    classifier: HarmfulnessClassifier, prompts: Sequence[str], hidden: np.ndarray | None = None
) -> np.ndarray:
    """Probability that each prompt asks for harm, [n], float64.

    Args:
        hidden: The prompts' pooled hidden states [n, width], where the classifier was fitted with them.

    Raises:
        ValueError: Hidden states given but not fitted with, or the other way round.
    """
    if (hidden is None) != (classifier.hidden is None):
        raise ValueError("give hidden states exactly if the classifier was fitted with them")
    blocks = [prompts[start : start + _BLOCK] for start in range(0, len(prompts), _BLOCK)] or [[]]
    views = [np.concatenate([classifier.words.scores(_tfidf(block, classifier.vocabulary)) for block in blocks])]
    if hidden is not None and classifier.hidden is not None:
        ridge, scale = classifier.hidden
        views.append(ridge.scores(hidden.astype(np.float64) / scale))
    return _mixed(views, classifier.mix)


def _inverse_document_frequency(texts: Sequence[str]) -> dict[str, float]:
    counts = Counter(word for text in texts for word in set(words(text)))
    return {word: float(np.log((1 + len(texts)) / (1 + n)) + 1) for word, n in sorted(counts.items())}


def _tfidf(texts: Sequence[str], vocabulary: Mapping[str, float]) -> np.ndarray:
    """Unit-length rows, one column a known word, [n, words]; a text without known words is a row of zeros."""
    column = {word: i for i, word in enumerate(vocabulary)}
    x = np.zeros((len(texts), len(vocabulary)))
    for row, text in zip(x, texts, strict=True):
        for word in set(words(text)) & column.keys():
            row[column[word]] = vocabulary[word]
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _fit_ridge(x: np.ndarray, targets: np.ndarray) -> tuple[Ridge, np.ndarray]:
    """Ridge regression with a free intercept, its penalty chosen by leave-one-out error.

    Works in the space of the n prompts, so the width of x hardly matters. With H the hat matrix, the prediction for
    row i when it is left out is (f_i - H_ii y_i) / (1 - H_ii), exactly.

    Returns:
        The regression, and every row's prediction when that row is left out, [n].
    """
    mean = x.mean(0)
    centred = x - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, n, bias = np.maximum(values, 0), len(targets), targets.mean()
    projected = vectors.T @ (targets - bias)
    best = (np.inf, 0.0, targets)
    for penalty in _PENALTIES:
        shrink = values / (values + penalty)
        leverage = (vectors**2) @ shrink + 1 / n
        fitted = bias + vectors @ (shrink * projected)
        left_out = (fitted - leverage * targets) / np.maximum(1 - leverage, 1e-9)
        best = min(best, (float(np.mean((left_out - targets) ** 2)), penalty, left_out), key=lambda found: found[0])
    _, penalty, left_out = best
    weights = centred.T @ (vectors @ (projected / (values + penalty)))
    return Ridge(mean, weights, float(bias)), left_out


def _fit_logistic(x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights (none negative) and intercept of a lightly penalised logistic regression; both classes weigh the same.

    A view that knows nothing has left-out predictions that point the wrong way, each being the mean of the others;
    without the bound it would get a negative weight.
    """
    design = np.column_stack([x, np.ones(len(x))])
    weight = np.where(targets > 0, 0.5 / np.sum(targets > 0), 0.5 / np.sum(targets < 0))

    def loss(w: np.ndarray) -> float:
        return float(weight @ np.logaddexp(0, -targets * (design @ w)) + 1e-3 * w @ w)

    def gradient(w: np.ndarray) -> np.ndarray:
        return -design.T @ (weight * targets * expit(-targets * (design @ w))) + 2e-3 * w

    bounds = [(0, None)] * x.shape[1] + [(None, None)]
    return minimize(loss, np.zeros(design.shape[1]), jac=gradient, method="L-BFGS-B", bounds=bounds).x


def _mixed(views: Sequence[np.ndarray], mix: np.ndarray) -> np.ndarray:
    return expit(np.column_stack([*views, np.ones(len(views[0]))]) @ mix)
