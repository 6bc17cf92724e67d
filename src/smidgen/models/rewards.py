"""What scores an answer: the one shape that reward models, rules and sums of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from smidgen.pairs import Messages

# Prompts and one answer to each, as text, to one number an answer, higher is better; no side effects.
Reward = Callable[[Sequence[Messages], Sequence[str]], Float[np.ndarray, " answers"]]
