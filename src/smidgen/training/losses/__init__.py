"""Preference losses: pure functions from log-probabilities to one value a pair, never reduced; one family a file.

A module in this folder registers its losses by being there.
"""

from importlib import import_module
from pkgutil import iter_modules

from smidgen.training.losses.answers import apo_down, apo_zero, bco, nca
from smidgen.training.losses.base import (
    Loss,
    MissingReference,
    MissingScores,
    combine,
    log_ratio_difference,
    log_ratios,
    loss,
)
from smidgen.training.losses.length import dpo_averaged, ld_dpo
from smidgen.training.losses.margin import discopop, dpo, exo, hinge, robust
from smidgen.training.losses.prospect import kto
from smidgen.training.losses.reference_free import cpo, nll, orpo, simpo
from smidgen.training.losses.scored import odpo, refined_dpo
from smidgen.training.losses.squared import ipo, ipo_averaged, sppo

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Loss",
    "MissingReference",
    "MissingScores",
    "apo_down",
    "apo_zero",
    "bco",
    "combine",
    "cpo",
    "discopop",
    "dpo",
    "dpo_averaged",
    "exo",
    "hinge",
    "ipo",
    "ipo_averaged",
    "kto",
    "ld_dpo",
    "log_ratio_difference",
    "log_ratios",
    "loss",
    "nca",
    "nll",
    "odpo",
    "orpo",
    "refined_dpo",
    "robust",
    "simpo",
    "sppo",
]
