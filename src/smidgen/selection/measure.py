"""The features of pairs, measured with models and prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from smidgen.data.templates import Template
from smidgen.data.tokens import EncodedPair
from smidgen.evaluation.patterns import SHIPPED, load_pattern_lists
from smidgen.evaluation.surrogate import encode_openings, refusal_openings
from smidgen.models.load import LanguageModel
from smidgen.pairs import PairTable
from smidgen.selection.feature_store import ColumnGroup, FeatureStore, OnBlock, pairs_hash
from smidgen.selection.features import Features, check_order
from smidgen.selection.gradient_groups import GradientSettings, GradientSource, gradient_groups
from smidgen.selection.groups import (
    aligned_group,
    external_group,
    look_at_prompts,
    pair_vector_group,
    reference_group,
    text_group,
)
from smidgen.selection.texts import DEFAULT_LIST, all_scored

# The working folder of a run's features, beside what the run leaves; what it holds is named by content.
WORK = "features.work"
_GRADIENTS = GradientSettings()


def measure_features(
    lm: LanguageModel,
    pairs: PairTable,
    encoded: Sequence[EncodedPair],
    *,
    template: Template,
    harmful: Sequence[str],
    harmless: Sequence[str],
    aligned: Callable[[], LanguageModel] | None = None,
    gradients: GradientSettings = _GRADIENTS,
    also: Sequence[ColumnGroup] = (),
    patterns: str = DEFAULT_LIST,
    work: Path | None = None,
    dtype: str = "float32",
    on_block: OnBlock = lambda group, done, total: None,
) -> tuple[Features, float]:
    """Every feature that selectors know, each group of columns measured when one of them is first asked for.

    Args:
        lm: The model that training starts from: the reference.
        pairs: Checked pairs.
        encoded: The same, in the same order.
        template: Writes the prompts.
        harmful: Dev prompts that ask for harm, to fit the classifier of prompts on and to compare prompts with.
        harmless: Dev prompts that do not.
        aligned: Gives the model after training on all pairs, once it is needed; None leaves its columns out.
        gradients: Of what runs the gradient columns are, where one is asked for.
        also: Further groups of columns.
        patterns: The list by which an answer refuses or does not: a shipped one, or a file's; all shipped ones vote.
        work: Folder of the store; what it holds of these pairs, models and prompts is not measured again. None for a
            folder that goes when the features do.
        dtype: Of the models' computation over the pairs, one of `DTYPES`, or "auto" as in `computing_dtype`.
        on_block: Called after every block of pairs with the group, how many are done, and how many there are.

    Returns:
        The features, and the classifier's accuracy on the dev prompts (leave-one-out).

    Raises:
        ValueError: `encoded` is not these pairs in this order.
        InvalidData: Fewer than two dev prompts of a class.
    """
    check_order(pairs, encoded)
    dev = look_at_prompts(lm, template, harmful, harmless)
    lists = load_pattern_lists(SHIPPED if patterns in SHIPPED else (*SHIPPED, patterns))
    (own,) = load_pattern_lists([patterns])
    decides = [(found.name, found.patterns) for found in (*lists, *([own] if patterns != DEFAULT_LIST else []))]
    reference = reference_group(lm, pairs, encoded, template=template, dev=dev, dtype=dtype)
    groups = [
        text_group(pairs, encoded, lists, decides, deciding=own.name),
        reference,
        pair_vector_group(reference),
    ]
    if all_scored(encoded):
        groups.append(external_group(encoded))
    if aligned is not None:
        aligned = cache(aligned)
        groups.append(aligned_group(aligned, encoded, dtype=dtype))
    openings = refusal_openings((pair.chosen_text for pair in pairs), own.matches, template, lm.tokenizer)
    source = GradientSource(
        settings=gradients,
        lm=lm,
        encoded=encoded,
        harmful=dev.tokens[0],
        harmless=dev.tokens[1],
        openings=encode_openings(openings, template, lm.tokenizer),
    )
    groups += [*gradient_groups(source, aligned), *also]
    store = FeatureStore(work, groups, n_rows=len(pairs), pairs=pairs_hash(pairs, encoded), on_block=on_block)
    return Features(np.array(pairs.idxs, dtype=np.int64), store.columns), dev.classifier.accuracy
