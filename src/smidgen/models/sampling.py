"""The settings of drawing tokens, checked; without torch, so that a command may refuse them before it loads a model."""

from __future__ import annotations

import math

from smidgen.errors import UsageError


def check_sampling(n_answers: int, temperature: float, top_p: float, top_k: int) -> None:
    """UsageError for a setting of `sample` that is out of its range."""
    if not 0 < temperature < math.inf:
        raise UsageError(f"expected a temperature above 0, got {temperature}; greedy decoding is `generate`.")
    if not 0 < top_p <= 1:
        raise UsageError(f"expected top_p above 0 and at most 1, got {top_p}; 1 keeps every token.")
    if top_k < 0:
        raise UsageError(f"expected top_k of at least 0, got {top_k}; 0 keeps every token.")
    if n_answers < 1:
        raise UsageError(f"expected n_answers of at least 1, got {n_answers}; 1 writes one answer to each prompt.")
