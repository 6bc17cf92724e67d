"""Features: what a selector may know about each pair, as plain columns computed once.

Selectors read columns and nothing else: never a pair's `meta`, never a text. Files and models stay at the edge, in
`write_features`, `read_features` and `logps_columns`.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import PairTable
from smidgen.runs import atomic_write

if TYPE_CHECKING:
    from smidgen.data.tokens import EncodedPair
    from smidgen.models.load import LanguageModel

DEFAULT_LIST = "common"
PROMPT_BUCKETS = 256
ANSWER_BUCKETS = 128
_BLOCK = 16_384  # rows looked at together
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


class PatternList(Protocol):
    """A named list of refusal patterns, as `evaluation.patterns` loads it."""

    @property
    def name(self) -> str: ...

    def matches(self, text: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Features:
    """One row a pair: row i of every column belongs to the pair `idx[i]`.

    Attributes:
        idx: The pairs' positions in the full dataset, int64 [n], distinct.
        columns: Arrays whose first axis has length n.

    Raises:
        ValueError: Repeated idx, or a column of another length.
    """

    idx: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if len(np.unique(self.idx)) != len(self.idx):
            raise ValueError("features need distinct idx, one row a pair")
        for name, values in self.columns.items():
            if len(values) != len(self.idx):
                raise ValueError(f"column {name!r}: expected {len(self.idx)} rows, got {len(values)}")

    def __len__(self) -> int:
        return len(self.idx)

    def column(self, name: str) -> np.ndarray:
        """The column of this name.

        Raises:
            UsageError: No such column; the message lists those there are.
            InvalidData: Values that are no finite numbers; the message says in how many rows.
        """
        if name not in self.columns:
            remedy = "Give --aligned, a model to compare with." if name.startswith("aligned_") else "Measure again."
            raise UsageError(f"no feature {name!r}; these exist: {', '.join(sorted(self.columns))}. {remedy}")
        values = self.columns[name]
        if n_bad := _rows_not_finite(values):
            raise InvalidData(
                f"feature {name!r}: expected finite numbers, got NaN or infinity in {n_bad} of {len(values)} rows. "
                "Leave these pairs out, or measure the features again."
            )
        return values

    def take(self, rows: np.ndarray) -> Features:
        """The features of these rows (positions or a mask), in the order given."""
        return Features(self.idx[rows], {name: values[rows] for name, values in self.columns.items()})


def _rows_not_finite(values: np.ndarray) -> int:
    """In how many rows there is NaN or infinity; looks at few rows at a time, as columns may lie on disk."""
    if values.dtype.kind != "f":
        return 0
    blocks = (values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK))
    return sum(int((~np.isfinite(block)).any(axis=tuple(range(1, values.ndim))).sum()) for block in blocks)


def compute_features(
    pairs: PairTable,
    encoded: Sequence[EncodedPair],
    *,
    pattern_lists: Sequence[PatternList],
    harmfulness: np.ndarray,
    ref_logps: tuple[np.ndarray, np.ndarray] | None = None,
    aligned_logps: tuple[np.ndarray, np.ndarray] | None = None,
    hidden: Mapping[str, np.ndarray] | None = None,
) -> Features:
    """Columns for every pair, in the order of `pairs`.

    Args:
        pairs: The checked pairs.
        encoded: The same pairs as tokens, in the same order.
        pattern_lists: Refusal patterns; the list named "common" also fills `chosen_refuses` and `rejected_refuses`.
        harmfulness: Of each pair's prompt, 0 to 1, [n].
        ref_logps: Summed log-probabilities of the chosen and the rejected answers under the reference, nats, [n] each.
        aligned_logps: The same under an aligned model.
        hidden: What `representations.hidden_columns` tells from hidden states, [n, ...] each.

    Raises:
        ValueError: `encoded` is not these pairs in this order.
        UsageError: No pattern list named "common".
    """
    if [pair.idx for pair in encoded] != pairs.idxs:
        raise ValueError("encoded pairs must be the table's pairs in the table's order; encode the table as it is")
    columns: dict[str, np.ndarray] = {}
    for patterns in pattern_lists:
        for side in ("chosen", "rejected"):
            answers = (getattr(pair, side)[-1].content for pair in pairs)
            columns[f"{side}_refuses_{patterns.name}"] = np.fromiter(map(patterns.matches, answers), bool, len(pairs))
    for side in ("chosen", "rejected"):
        if f"{side}_refuses_{DEFAULT_LIST}" not in columns:
            names = ", ".join(p.name for p in pattern_lists) or "none"
            raise UsageError(f"expected a pattern list named {DEFAULT_LIST!r}, got {names}; add it to the lists.")
        columns[f"{side}_refuses"] = columns[f"{side}_refuses_{DEFAULT_LIST}"]
    for part in ("prompt", "chosen", "rejected"):
        columns[f"{part}_tokens"] = np.array([len(getattr(pair, part)) for pair in encoded], dtype=np.int64)
    columns["n_turns"] = np.array([len(pair.prompt) for pair in pairs], dtype=np.int64)
    columns["prompt_harmfulness"] = np.asarray(harmfulness, dtype=np.float64)
    columns["text_vector"] = text_vectors(
        [pair.prompt_text for pair in pairs], [f"{pair.chosen_text} {pair.rejected_text}" for pair in pairs]
    )
    for model, logps in (("ref", ref_logps), ("aligned", aligned_logps)):
        if logps is not None:
            columns[f"{model}_chosen_logps"], columns[f"{model}_rejected_logps"] = map(np.asarray, logps)
    return Features(np.array(pairs.idxs, dtype=np.int64), {**columns, **(hidden or {})})


def logps_columns(lm: LanguageModel, encoded: Sequence[EncodedPair]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of chosen and rejected answers under a model: summed over tokens, nats, float64 [n] each."""
    from smidgen.models.logprobs import score_answers  # here, so that reading features does not load torch

    scored = score_answers(lm, [pair.prompt for pair in encoded], [(pair.chosen, pair.rejected) for pair in encoded])
    chosen, rejected = (
        np.array([answers[side].sum(dtype=np.float64) for answers in scored], dtype=np.float64) for side in (0, 1)
    )
    return chosen, rejected


def words(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation."""
    return _WORD.findall(text.lower())


def text_vectors(prompts: Sequence[str], answers: Sequence[str], *, answer_share: float = 0.3) -> np.ndarray:
    """One unit vector a pair; an inner product says how alike two pairs' texts are, 0 to 1.

    Prompts and answers are hashed bags of words, weighted by log inverse document frequency over these pairs, and
    each scaled to length 1: the inner product is (1 - answer_share) * cos(prompts) + answer_share * cos(answers).

    Returns:
        float32 [n, 384].
    """
    parts = ((prompts, PROMPT_BUCKETS, 1 - answer_share), (answers, ANSWER_BUCKETS, answer_share))
    return np.hstack([math.sqrt(share) * _hashed_tfidf(texts, buckets) for texts, buckets, share in parts])


def _hashed_tfidf(texts: Sequence[str], buckets: int) -> np.ndarray:
    """Unit-length hashed tf-idf rows, [n, buckets] float32; a text without words is a row of zeros."""
    bags = [sorted(set(words(text))) for text in texts]
    counts = Counter(word for bag in bags for word in bag)
    vectors = np.zeros((len(texts), buckets), dtype=np.float32)
    for vector, bag in zip(vectors, bags, strict=True):
        for word in bag:
            vector[zlib.crc32(word.encode("utf-8", "surrogatepass")) % buckets] += np.log(len(texts) / counts[word])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def write_features(features: Features, path: Path | str) -> None:
    """Write Parquet, whole or not at all; columns with a second axis become fixed-size lists."""
    arrays = {"idx": pa.array(features.idx)}
    for name, values in sorted(features.columns.items()):
        if values.ndim == 1:
            arrays[name] = pa.array(values)
        else:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    with atomic_write(path, "wb") as file:
        pq.write_table(pa.table(arrays), file)


def read_features(path: Path | str) -> Features:
    """Read what `write_features` wrote, value for value.

    Raises:
        InvalidData: No such file, or not a features file.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidData(f"expected a features file at {path}: {error}. Compute the features again.") from error
    columns = {name: _to_numpy(table.column(name)) for name in table.column_names}
    if "idx" not in columns:
        raise InvalidData(f"expected a column idx in {path}, got {', '.join(columns)}. Compute the features again.")
    return Features(columns.pop("idx"), columns)


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)
    return array.to_numpy(zero_copy_only=False)
