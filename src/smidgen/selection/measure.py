"""The features of pairs, measured with models and prompts; and what a subset's table says of each kept pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smidgen.data.templates import Template
from smidgen.data.tokens import EncodedPair, encode_prompts
from smidgen.evaluation.patterns import SHIPPED, load_pattern_lists
from smidgen.models.hidden import pair_states, pooled_hidden, prompt_states
from smidgen.models.load import LanguageModel
from smidgen.pairs import PairTable
from smidgen.selection.features import Features, compute_features, logps_columns
from smidgen.selection.harmfulness import fit_harmfulness, prompt_harmfulness
from smidgen.selection.kinds import kind_of
from smidgen.selection.representations import hidden_columns


def measure_features(
    lm: LanguageModel,
    pairs: PairTable,
    encoded: Sequence[EncodedPair],
    *,
    template: Template,
    harmful: Sequence[str],
    harmless: Sequence[str],
    ref_logps: tuple[np.ndarray, np.ndarray] | None = None,
    aligned: LanguageModel | None = None,
) -> tuple[Features, float]:
    """Every feature that selectors know.

    Args:
        lm: The model that training starts from: the reference.
        pairs: Checked pairs.
        encoded: The same, in the same order.
        template: Writes the prompts.
        harmful: Dev prompts that ask for harm, to fit the classifier of prompts on and to compare prompts with.
        harmless: Dev prompts that do not.
        ref_logps: Summed log-probabilities of the chosen and the rejected answers under `lm`, nats, [n] each, where
            they are stored already; computed where None.
        aligned: The model after training on all pairs; None leaves its columns out.

    Returns:
        The features, and the classifier's accuracy on the dev prompts (leave-one-out).
    """

    def tokens(prompts: Sequence[str]) -> list[tuple[int, ...]]:
        return encode_prompts(prompts, template, lm.tokenizer)

    dev = tokens(harmful), tokens(harmless)
    hidden_harmful, hidden_harmless = (pooled_hidden(lm, prompts) for prompts in dev)
    classifier = fit_harmfulness(harmful, harmless, hidden_harmful=hidden_harmful, hidden_harmless=hidden_harmless)
    asked = [pair.prompt[-1].content for pair in pairs]
    states = pair_states(lm, [pair.prompt for pair in encoded], [(pair.chosen, pair.rejected) for pair in encoded])
    features = compute_features(
        pairs,
        encoded,
        pattern_lists=load_pattern_lists(SHIPPED),
        harmfulness=prompt_harmfulness(classifier, asked, pooled_hidden(lm, tokens(asked))),
        ref_logps=ref_logps or logps_columns(lm, encoded),
        aligned_logps=logps_columns(aligned, encoded) if aligned else None,
        hidden=hidden_columns(states, *(prompt_states(lm, prompts) for prompts in dev)),
    )
    return features, classifier.accuracy


def subset_columns(
    subset: PairTable, features: Features, reasons: Sequence[str], *, selector: str
) -> dict[str, Sequence[Any]]:
    """What stands in subset.csv beside idx, prompt, chosen and rejected.

    Args:
        subset: The kept pairs, best first.
        features: Of all pairs.
        reasons: Why each pair was kept or not, one a row of `features`.
        selector: The ranking that chose them, with its settings.
    """
    row_of = {int(idx): row for row, idx in enumerate(features.idx)}
    rows = np.array([row_of[idx] for idx in subset.idxs], dtype=np.int64)
    kept = features.take(rows)
    return {
        "rank": list(range(1, len(subset) + 1)),
        "selector": [selector] * len(subset),
        "reason": [reasons[row] for row in rows],
        "kind": kind_of(kept),
        "prompt_harmfulness": [round(float(value), 4) for value in kept.column("prompt_harmfulness")],
        "chosen_refuses": [bool(value) for value in kept.column("chosen_refuses")],
        "rejected_refuses": [bool(value) for value in kept.column("rejected_refuses")],
        "source": [pair.source for pair in subset],
        "source_row": [pair.source_row for pair in subset],
    }
