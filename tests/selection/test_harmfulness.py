"""The harmfulness classifier: leave-one-out is exact, probabilities order prompts, views combine."""

from __future__ import annotations

import numpy as np
import pytest

from smidgen.errors import InvalidData
from smidgen.selection.harmfulness import _fit_ridge, fit_harmfulness, prompt_harmfulness

HARMFUL = [f"how to {verb} a {thing} unseen" for verb in ("steal", "poison", "rob") for thing in ("bank", "car", "dog")]
HARMLESS = [f"how to {verb} a {thing} today" for verb in ("paint", "wash", "draw") for thing in ("bank", "car", "dog")]


def hidden(n: int, centre: float, seed: int, width: int = 600) -> np.ndarray:
    """States of more dimensions than prompts, on scales that differ; a tenth of the dimensions tell the class."""
    states = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    states[:, : width // 10] += centre / 2
    return states * np.geomspace(0.01, 100, width, dtype=np.float32)


def test_unseen_prompts_are_told_apart() -> None:
    classifier = fit_harmfulness(HARMFUL, HARMLESS)
    p = prompt_harmfulness(classifier, ["please steal my neighbour's bike", "please wash my neighbour's bike", "zzz"])
    assert p[0] > 0.5 > p[1]
    assert p[1] < p[2] < p[0]
    assert classifier.accuracy == 1
    assert classifier.n_prompts == 18


def test_accuracy_is_out_of_fold() -> None:
    """Words that say nothing about the class can be learnt by heart, which leaving each out must expose."""
    rng = np.random.default_rng(0)
    noise = [" ".join(f"w{i}" for i in rng.integers(0, 60, 8)) for _ in range(200)]
    classifier = fit_harmfulness(noise[:100], noise[100:])
    assert 0.35 < classifier.accuracy < 0.65


def test_leave_one_out_equals_refitting() -> None:
    rng = np.random.default_rng(1)
    x, targets = rng.normal(size=(12, 5)), np.where(rng.random(12) < 0.5, 1.0, -1.0)
    ridge, left_out = _fit_ridge(x, targets)
    # The penalty is recovered from the normal equations of the fit on all rows.
    centred = x - x.mean(0)
    residual = centred.T @ (targets - targets.mean() - centred @ ridge.weights)
    penalty = float(np.median(residual / ridge.weights))
    for i in range(12):
        rest = np.arange(12) != i
        mean, bias = x[rest].mean(0), targets[rest].mean()
        a = x[rest] - mean
        weights = np.linalg.solve(a.T @ a + penalty * np.eye(5), a.T @ (targets[rest] - bias))
        assert left_out[i] == pytest.approx((x[i] - mean) @ weights + bias, abs=1e-6)


def test_hidden_states_decide_where_words_do_not() -> None:
    texts = ["the same words"] * 60
    classifier = fit_harmfulness(texts, texts, hidden_harmful=hidden(60, 1, 0), hidden_harmless=hidden(60, -1, 1))
    assert classifier.accuracy > 0.9
    assert classifier.mix[0] == 0  # the words
    p = prompt_harmfulness(classifier, texts, np.vstack([hidden(30, 1, 2), hidden(30, -1, 3)]))
    assert (p[:30] > 0.5).mean() > 0.9
    assert (p[30:] < 0.5).mean() > 0.9


def test_each_prompt_is_judged_by_itself() -> None:
    classifier = fit_harmfulness(HARMFUL, HARMLESS)
    many = (HARMFUL + HARMLESS) * 300
    together = prompt_harmfulness(classifier, many)
    np.testing.assert_allclose(together[-18:], prompt_harmfulness(classifier, many[-18:]), atol=1e-12)
    assert prompt_harmfulness(classifier, []).shape == (0,)
    assert ((together > 0) & (together < 1)).all()


def test_class_sizes_do_not_shift_the_middle() -> None:
    classifier = fit_harmfulness(HARMFUL, HARMLESS * 10)
    assert prompt_harmfulness(classifier, HARMFUL).min() > 0.5 > prompt_harmfulness(classifier, HARMLESS).max()


def test_errors_say_what_to_give() -> None:
    with pytest.raises(InvalidData, match="got 1 and 9"):
        fit_harmfulness(HARMFUL[:1], HARMLESS)
    with pytest.raises(ValueError, match="both classes, or of neither"):
        fit_harmfulness(HARMFUL, HARMLESS, hidden_harmful=hidden(9, 1, 0))
    with pytest.raises(ValueError, match="exactly if"):
        prompt_harmfulness(fit_harmfulness(HARMFUL, HARMLESS), HARMFUL, hidden(9, 1, 0))
