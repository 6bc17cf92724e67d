"""Rows hold every token once where they should, and say where each answer's predictions lie."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.models.attention import Span
from smidgen.models.rows import LAYOUTS, Layout, attention_mask, collate_rows, token_budget_batches

PROMPTS = [(5, 6, 7), (9,)]
ANSWERS = [[(10, 11, 0), (12, 0)], [(3, 0), (7,)]]


def test_a_packed_row_by_hand() -> None:
    rows = collate_rows(PROMPTS, ANSWERS, layout="packed")
    assert rows.input_ids.tolist() == [[5, 6, 7, 10, 11, 12, 9, 3]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 0, 1]]
    assert rows.segments.tolist() == [[0, 0, 0, 1, 1, 2, 0, 1]]
    assert rows.targets.tolist() == [10, 11, 0, 12, 0, 3, 0, 7]
    assert rows.sources.tolist() == [2, 3, 4, 2, 5, 6, 7, 6]
    assert rows.packing is not None
    assert rows.packing.spans == (Span(0, 3, (2, 1)), Span(6, 1, (1, 0)))
    assert rows.n_tokens == 8


def test_a_shared_row_by_hand() -> None:
    rows = collate_rows(PROMPTS, ANSWERS, layout="shared")
    assert rows.input_ids.tolist() == [[5, 6, 7, 10, 11, 12], [9, 3, 0, 0, 0, 0]]
    assert rows.sources.tolist() == [2, 3, 4, 2, 5, 6, 7, 6]
    assert rows.n_tokens == 8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_predicted_is_the_same_in_every_layout(layout: Layout) -> None:
    rows = collate_rows(PROMPTS, ANSWERS, layout=layout)
    assert rows.targets.tolist() == [10, 11, 0, 12, 0, 3, 0, 7]
    assert rows.answer_mask.sum(-1).tolist() == [3, 2, 2, 1]
    before = rows.input_ids.flatten()[rows.sources].tolist()
    assert before == [7, 10, 11, 7, 12, 9, 3, 9]


def test_mask_by_hand() -> None:
    segments = torch.tensor([[0, 1, 2, -1]])
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    expected[3] = [1, 0, 0, 1]  # padding sees the prompt and itself; nothing sees padding
    assert attention_mask(segments)[0, 0].int().tolist() == expected


@pytest.mark.parametrize(("prompt", "answer"), [((), (1,)), ((1,), ())])
def test_nothing_to_predict_is_an_error(prompt: tuple[int, ...], answer: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        collate_rows([prompt], [[answer]], layout="packed")


@given(lengths=st.lists(st.integers(1, 50), max_size=40), budget=st.integers(1, 120), padded=st.booleans())
def test_batches_keep_to_their_budget(lengths: list[int], budget: int, padded: bool) -> None:
    batches = token_budget_batches(lengths, budget, padded=padded)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[i] for i in batch]
        assert len(batch) == 1 or (max(sizes) * len(sizes) if padded else sum(sizes)) <= budget
