"""What a pair teaches, as far as its features tell: refusing harm, answering the harmless, the opposite, or neither."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features

REFUSAL = "refusal contrast"
ANSWERING = "answering contrast"
INVERTED = "inverted"
OTHER = "other"


def kinds(features: Features) -> np.ndarray:
    """Each pair's kind, one of the four names above, [n].

    On a harmful prompt (harmfulness at least .5), a pair whose chosen answer alone refuses teaches refusing; on a
    harmless one, a pair whose rejected answer alone refuses teaches answering. The other way round a pair is inverted.
    """
    chosen, rejected = features.column("chosen_refuses"), features.column("rejected_refuses")
    harmful = features.column("prompt_harmfulness") >= 0.5
    prefers_refusing, prefers_answering = chosen & ~rejected, rejected & ~chosen
    return np.select(
        [
            harmful & prefers_refusing,
            ~harmful & prefers_answering,
            (harmful & prefers_answering) | (~harmful & prefers_refusing),
        ],
        [REFUSAL, ANSWERING, INVERTED],
        default=OTHER,
    )


def kind_of(features: Features) -> list[str]:
    """`kinds` as a list of strings, for tables and reports."""
    return [str(kind) for kind in kinds(features)]


def is_inverted(features: Features) -> np.ndarray:
    """True where a pair prefers complying with harm, or refusing the harmless; bool [n]."""
    return kinds(features) == INVERTED
