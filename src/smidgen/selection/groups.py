"""The groups of columns that a feature store measures: texts, external scores, the reference, an aligned model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.data.templates import Template
from smidgen.data.tokens import EncodedPair, encode_prompts
from smidgen.models.hidden import pooled_hidden, prompt_states
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import find_layout
from smidgen.models.pair_pass import pass_over_pairs
from smidgen.pairs import PairTable
from smidgen.selection.feature_store import ColumnGroup, MeasureBlock
from smidgen.selection.features import logps_columns
from smidgen.selection.harmfulness import HarmfulnessClassifier, fit_harmfulness, prompt_harmfulness
from smidgen.selection.refusal_direction import RefusalDirection, fit_refusal_direction
from smidgen.selection.representations import hidden_columns, mean_rows, pair_parts, pair_vectors
from smidgen.selection.texts import (
    DEFAULT_LIST,
    PatternList,
    count_words,
    external_margin,
    prompt_and_answers,
    text_columns,
    text_names,
)

_REFERENCE = (
    "ref_chosen_logps",
    "ref_rejected_logps",
    "prompt_harmfulness",
    "refusal_direction",
    "ches",
    "similarity_harmful",
    "nearest_harmful",
    "similarity_harmless",
    "nearest_harmless",
    "prompt_vector",
    "_prompt_part",
    "_difference_part",
)


@dataclass(frozen=True, slots=True)
class DevPrompts:
    """What the reference makes of the dev prompts: everything that pairs are compared with.

    Attributes:
        decides: What it follows from, JSON-able.
        tokens: The harmful and the harmless prompts' token ids.
        states: Of the harmful and the harmless prompts, from `prompt_states`, [prompts, width] each.
    """

    decides: Sequence[Sequence[object]]
    classifier: HarmfulnessClassifier
    direction: RefusalDirection
    tokens: Sequence[Sequence[tuple[int, ...]]]
    states: tuple[np.ndarray, np.ndarray]


def look_at_prompts(
    lm: LanguageModel, template: Template, harmful: Sequence[str], harmless: Sequence[str]
) -> DevPrompts:
    """Run the reference over the dev prompts, and fit the classifier and the direction on them."""
    dev = [encode_prompts(prompts, template, lm.tokenizer) for prompts in (harmful, harmless)]
    pooled = [pooled_hidden(lm, prompts) for prompts in dev]
    last = [states[:, states.shape[1] // 2 :] for states in pooled]
    return DevPrompts(
        decides=(harmful, harmless, *dev),
        classifier=fit_harmfulness(harmful, harmless, hidden_harmful=pooled[0], hidden_harmless=pooled[1]),
        direction=fit_refusal_direction(*last),
        tokens=dev,
        states=(prompt_states(lm, dev[0]), prompt_states(lm, dev[1])),
    )


def text_group(
    pairs: PairTable,
    encoded: Sequence[EncodedPair],
    pattern_lists: Sequence[PatternList],
    decides: object,
    *,
    deciding: str = DEFAULT_LIST,
) -> ColumnGroup:
    """What texts and tokens tell by themselves; one pass over all texts comes first, for the words' frequencies.

    Args:
        decides: Whatever names the pattern lists' content, JSON-able.
        deciding: The list by which an answer refuses or does not.
    """

    def prepare(columns: Mapping[str, np.ndarray]) -> MeasureBlock:
        told = {"pattern_lists": pattern_lists, "counts": count_words(map(prompt_and_answers, pairs))}
        return lambda rows: text_columns(pairs[rows], encoded[rows], **told, deciding=deciding)

    return ColumnGroup(name="text", columns=text_names(pattern_lists), decides=lambda: decides, prepare=prepare)


def external_group(encoded: Sequence[EncodedPair]) -> ColumnGroup:
    """The margin of external scores; for pairs that all have both."""

    def prepare(columns: Mapping[str, np.ndarray]) -> MeasureBlock:
        return lambda rows: {"external_margin": external_margin(encoded[rows])}

    return ColumnGroup(name="external", columns=("external_margin",), decides=lambda: None, prepare=prepare)


def reference_group(
    lm: LanguageModel,
    pairs: PairTable,
    encoded: Sequence[EncodedPair],
    *,
    template: Template,
    dev: DevPrompts,
    dtype: str = "float32",
) -> ColumnGroup:
    """Everything that one pass of the reference over each pair tells: log-probabilities and hidden states.

    `prompt_harmfulness` and `refusal_direction` look at a conversation's last message alone, as the dev prompts are
    one message; where a prompt has several, that one is run by itself.
    """

    def prepare(columns: Mapping[str, np.ndarray]) -> MeasureBlock:
        layout = find_layout(lm.model)

        def measure(rows: slice) -> dict[str, np.ndarray]:
            block = encoded[rows]
            prompts, answers = [p.prompt for p in block], [(p.chosen, p.rejected) for p in block]
            found = pass_over_pairs(lm, prompts, answers, layout=layout, dtype=dtype)
            asked = [pair.prompt[-1].content for pair in pairs[rows]]
            asked_tokens, states = encode_prompts(asked, template, lm.tokenizer), found.prompt
            if apart := [i for i, tokens in enumerate(asked_tokens) if tokens != prompts[i]]:
                states[apart] = pooled_hidden(lm, [asked_tokens[i] for i in apart])
            prompt_part, difference_part = pair_parts(found.states)
            return {
                "ref_chosen_logps": found.chosen_logps,
                "ref_rejected_logps": found.rejected_logps,
                "prompt_harmfulness": prompt_harmfulness(dev.classifier, asked, states),
                "refusal_direction": dev.direction.project(states[:, states.shape[1] // 2 :]),
                **hidden_columns(found.states, *dev.states),
                "_prompt_part": prompt_part,
                "_difference_part": difference_part,
            }

        return measure

    return ColumnGroup(
        name="reference",
        columns=_REFERENCE,
        decides=lambda: (lm.fingerprint, str(lm.model.dtype), template.name, dtype, dev.decides),
        prepare=prepare,
        apart=True,
    )


def pair_vector_group(reference: ColumnGroup) -> ColumnGroup:
    """`hidden_vector`, for which the mean over all pairs must be known: from what the reference's pass left."""

    def prepare(columns: Mapping[str, np.ndarray]) -> MeasureBlock:
        parts = columns["_prompt_part"], columns["_difference_part"]
        means = mean_rows(parts[0]), mean_rows(parts[1])
        return lambda rows: {"hidden_vector": pair_vectors(parts[0][rows], parts[1][rows], means)}

    return ColumnGroup(name="pair-vectors", columns=("hidden_vector",), decides=reference.decides, prepare=prepare)


def aligned_group(
    aligned: Callable[[], LanguageModel], encoded: Sequence[EncodedPair], *, dtype: str = "float32"
) -> ColumnGroup:
    """Log-probabilities under a model trained on all pairs, asked for when they are needed."""

    def prepare(columns: Mapping[str, np.ndarray]) -> MeasureBlock:
        lm = aligned()
        layout = find_layout(lm.model)

        def measure(rows: slice) -> dict[str, np.ndarray]:
            chosen, rejected = logps_columns(lm, encoded[rows], layout=layout, dtype=dtype)
            return {"aligned_chosen_logps": chosen, "aligned_rejected_logps": rejected}

        return measure

    return ColumnGroup(
        name="aligned",
        columns=("aligned_chosen_logps", "aligned_rejected_logps"),
        decides=lambda: (aligned().fingerprint, str(aligned().model.dtype), dtype),
        prepare=prepare,
        on_demand=True,
        apart=True,
    )
