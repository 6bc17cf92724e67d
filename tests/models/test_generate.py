"""Batched greedy decoding equals one prompt at a time without a cache."""

import pytest
import torch

from smidgen.errors import InvalidData
from smidgen.models.generate import end_ids, generate
from smidgen.models.load import LanguageModel

PROMPTS = [(5, 6, 7), (9,), (8, 3, 4, 11, 12, 2), (30, 31)]


@torch.no_grad()
def naive(lm: LanguageModel, prompt: tuple[int, ...], n: int) -> tuple[int, ...]:
    ids = list(prompt)
    for _ in range(n):
        token = int(lm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in end_ids(lm):
            break
        ids.append(token)
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_equals_the_naive_loop_in_the_order_given(tiny: LanguageModel, batch_size: int) -> None:
    written = generate(tiny, PROMPTS, max_new_tokens=12, batch_size=batch_size)
    assert written == [naive(tiny, prompt, 12) for prompt in PROMPTS]


def test_stops_at_end_of_text_and_leaves_it_out(tiny: LanguageModel) -> None:
    first = naive(tiny, PROMPTS[0], 12)
    assert len(first) > 3
    tiny.model.generation_config.eos_token_id = [first[2], tiny.tokenizer.eos_token_id]
    (cut,) = generate(tiny, PROMPTS[:1], max_new_tokens=12)
    assert cut == first[: first.index(first[2])]


def test_a_prompt_near_the_last_position_writes_less_and_shortens_nobody(tiny: LanguageModel) -> None:
    long = tuple(range(5, 5 + tiny.max_positions - 2))
    written = generate(tiny, [PROMPTS[0], long], max_new_tokens=12)
    assert written[0] == naive(tiny, PROMPTS[0], 12)
    assert written[1] == naive(tiny, long, 2)


def test_a_prompt_without_room_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(InvalidData, match="prompt 1 has 96 tokens"):
        generate(tiny, [(1,), (1,) * tiny.max_positions], max_new_tokens=4)


def test_no_prompts_no_answers(tiny: LanguageModel) -> None:
    assert generate(tiny, []) == []
