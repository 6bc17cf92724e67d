"""The features of pairs, measured with models and prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from smidgen.data.templates import Template, load_template
from smidgen.data.tokens import EncodedPair
from smidgen.evaluation.patterns import SHIPPED, load_pattern_lists
from smidgen.evaluation.surrogate import encode_openings, refusal_openings
from smidgen.models.load import LanguageModel
from smidgen.pairs import PairTable
from smidgen.selection.feature_store import ColumnGroup, FeatureStore, MeasureElsewhere, OnBlock, pairs_hash
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

# Groups whose blocks need the aligned model, so that it is neither made nor sent for the others.
WITH_ALIGNED = ("aligned", "alignment")
_GRADIENTS = GradientSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSource:
    """Everything that features are measured from besides models; it can be sent to other machines.

    Attributes:
        pairs: Checked pairs.
        encoded: The same, in the same order.
        template: Writes the prompts.
        harmful: Dev prompts that ask for harm, to fit the classifier of prompts on and to compare prompts with.
        harmless: Dev prompts that do not.
        gradients: Of what runs the gradient columns are, where one is asked for.
        patterns: The list by which an answer refuses or does not: a shipped one, or a file's; all shipped ones vote.
        dtype: Of the models' computation over the pairs, one of `DTYPES`, or "auto" as in `computing_dtype`.
    """

    pairs: PairTable
    encoded: Sequence[EncodedPair]
    template: str
    harmful: Sequence[str]
    harmless: Sequence[str]
    gradients: GradientSettings = _GRADIENTS
    patterns: str = DEFAULT_LIST
    dtype: str = "float32"


# Gives what measures blocks in other processes, for this source, its reference and its aligned model.
Elsewhere = Callable[[FeatureSource, LanguageModel, Callable[[], LanguageModel] | None], MeasureElsewhere]


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
    elsewhere: Elsewhere | None = None,
) -> tuple[Features, float]:
    """Every feature that selectors know, each group of columns measured when one of them is first asked for.

    Args:
        lm: The model that training starts from: the reference.
        pairs: As in `FeatureSource`, and so are encoded, template, harmful, harmless, gradients, patterns and
            dtype.
        aligned: Gives the model after training on all pairs, once it is needed; None leaves its columns out.
        also: Further groups of columns.
        work: Folder of the store; what it holds of these pairs, models and prompts is not measured again. None for a
            folder that goes when the features do.
        on_block: Called after every block of pairs with the group, how many are done, and how many there are.
        elsewhere: Measures costly groups in other processes; None for this one.

    Returns:
        The features, and the classifier's accuracy on the dev prompts (leave-one-out).

    Raises:
        ValueError: `encoded` is not these pairs in this order.
        InvalidData: Fewer than two dev prompts of a class.
    """
    source = FeatureSource(
        pairs=pairs,
        encoded=encoded,
        template=template.name,
        harmful=harmful,
        harmless=harmless,
        gradients=gradients,
        patterns=patterns,
        dtype=dtype,
    )
    aligned = aligned and cache(aligned)
    groups, accuracy = column_groups(lm, source, aligned)
    store = FeatureStore(
        work,
        [*groups, *also],
        n_rows=len(pairs),
        pairs=pairs_hash(pairs, encoded),
        on_block=on_block,
        elsewhere=elsewhere and elsewhere(source, lm, aligned),
    )
    return Features(np.array(pairs.idxs, dtype=np.int64), store.columns), accuracy


def column_groups(
    lm: LanguageModel, source: FeatureSource, aligned: Callable[[], LanguageModel] | None
) -> tuple[list[ColumnGroup], float]:
    """Every group of columns that pairs, prompts and models give, and the accuracy of the classifier of prompts."""
    pairs, encoded, dtype = source.pairs, source.encoded, source.dtype
    check_order(pairs, encoded)
    template = load_template(source.template, lm.tokenizer)
    dev = look_at_prompts(lm, template, source.harmful, source.harmless)
    lists = load_pattern_lists(SHIPPED if source.patterns in SHIPPED else (*SHIPPED, source.patterns))
    (own,) = load_pattern_lists([source.patterns])
    decides = [(found.name, found.patterns) for found in (*lists, *([own] if source.patterns != DEFAULT_LIST else []))]
    reference = reference_group(lm, pairs, encoded, template=template, dev=dev, dtype=dtype)
    groups = [
        text_group(pairs, encoded, lists, decides, deciding=own.name),
        reference,
        pair_vector_group(reference),
    ]
    if all_scored(encoded):
        groups.append(external_group(encoded))
    if aligned is not None:
        groups.append(aligned_group(aligned, encoded, dtype=dtype))
    openings = refusal_openings((pair.chosen_text for pair in pairs), own.matches, template, lm.tokenizer)
    gradients = GradientSource(
        settings=source.gradients,
        lm=lm,
        encoded=encoded,
        harmful=dev.tokens[0],
        harmless=dev.tokens[1],
        openings=encode_openings(openings, template, lm.tokenizer),
    )
    return [*groups, *gradient_groups(gradients, aligned)], dev.classifier.accuracy
