"""How harmful a model takes a prompt to be: where its state lies on the way from harmless to harmful prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RefusalDirection:
    """The difference of mean states: `origin` is the harmless prompts' mean, `step` leads to the harmful ones'."""

    origin: np.ndarray
    step: np.ndarray

    def project(self, states: np.ndarray) -> np.ndarray:
        """<state - origin, step> / |step|^2: 0 at the harmless mean, 1 at the harmful one, .5 midway, float64 [n].

        Not bounded. Where both means are the same, .5 for all.
        """
        length = float(self.step @ self.step)
        if length < 1e-12:
            return np.full(len(states), 0.5)
        return (states.astype(np.float64) - self.origin) @ self.step / length


def fit_refusal_direction(harmful: np.ndarray, harmless: np.ndarray) -> RefusalDirection:
    """The direction of two classes of prompts.

    Args:
        harmful: The last layer's state at each prompt's last token, where the answer begins, [prompts, width].
        harmless: The same.

    Source: Arditi et al. 2024, arXiv:2406.11717, Eq. 1 and 2. They choose layer and token by what ablating the
    direction does to refusals; here it is the last layer, which the pass over the pairs leaves at no further cost.
    """
    origin = harmless.mean(axis=0, dtype=np.float64)
    return RefusalDirection(origin, harmful.mean(axis=0, dtype=np.float64) - origin)
