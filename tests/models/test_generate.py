"""Batched decoding, greedy or sampled, equals one prompt at a time without a cache."""

import numpy as np
import pytest
import torch

from smidgen.errors import InvalidData, UsageError
from smidgen.models.generate import Completion, drawn, end_ids, generate, kept_logits, sample
from smidgen.models.load import LanguageModel
from smidgen.pairs import random_key

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


@torch.no_grad()
def naive_sample(lm: LanguageModel, prompt: tuple[int, ...], n: int, *, seed: int, row: int, number: int) -> Completion:
    """One token after the other without a cache, the same luck."""
    luck, ids = np.random.default_rng(random_key(f"{seed}/{number}", row)).random(n), list(prompt)
    for draw in luck:
        shares = lm.model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        token = int((shares.cumsum(-1) <= draw).sum())
        if token in end_ids(lm):
            return Completion(tuple(ids[len(prompt) :]), token)
        ids.append(token)
    return Completion(tuple(ids[len(prompt) :]), None)


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_sampling_equals_the_naive_loop_whatever_the_batch(tiny: LanguageModel, batch_size: int) -> None:
    tiny.model.generation_config.eos_token_id = list(range(40))  # so that some answers end
    found = sample(tiny, PROMPTS, seed=5, n_answers=3, max_new_tokens=12, batch_size=batch_size)
    expected = [
        [naive_sample(tiny, prompt, 12, seed=5, row=i, number=k) for k in range(3)] for i, prompt in enumerate(PROMPTS)
    ]
    assert found == expected
    ends = [completion.end for answers in found for completion in answers]
    assert None in ends
    assert set(ends) - {None} <= set(range(40))
    assert len(set(ends)) > 1


def test_luck_follows_from_seed_row_and_number_alone(tiny: LanguageModel) -> None:
    together = sample(tiny, PROMPTS, seed=5, n_answers=2, max_new_tokens=6)
    assert sample(tiny, PROMPTS, seed=5, max_new_tokens=6) == [answers[:1] for answers in together]
    assert sample(tiny, PROMPTS[2:], seed=5, n_answers=2, max_new_tokens=6, row_ids=[2, 3]) == together[2:]
    assert sample(tiny, PROMPTS, seed=6, n_answers=2, max_new_tokens=6) != together
    assert len({answer.tokens for answer in sample(tiny, PROMPTS[:1] * 5, seed=5, max_new_tokens=6)[0]}) == 1
    assert len({answers[0].tokens for answers in sample(tiny, PROMPTS[:1] * 5, seed=5, max_new_tokens=6)}) == 5


def test_sampling_leaves_global_generators_alone_and_greedy_is_its_limit(tiny: LanguageModel) -> None:
    before = torch.random.get_rng_state()
    coldest = sample(tiny, PROMPTS, seed=0, max_new_tokens=8, temperature=1e-6)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [answers[0].tokens for answers in coldest] == generate(tiny, PROMPTS, max_new_tokens=8)
    one = sample(tiny, PROMPTS, seed=1, max_new_tokens=8, top_k=1)
    assert [answers[0].tokens for answers in one] == generate(tiny, PROMPTS, max_new_tokens=8)


def test_draws_have_the_models_own_frequencies() -> None:
    logits, n = torch.randn(50, generator=torch.Generator().manual_seed(0)), 4000
    tokens = drawn(logits.expand(n, -1), (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    counts = torch.bincount(tokens, minlength=50)
    assert (counts - n * logits.double().softmax(-1)).abs().max() <= 1
    assert drawn(logits[None], torch.tensor([1 - 2**-53], dtype=torch.float64)).item() == 49


def test_top_p_and_top_k_keep_the_most_probable() -> None:
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()

    def kept(**settings: float) -> list[int]:
        return torch.isfinite(kept_logits(logits, **settings)).nonzero()[:, 1].tolist()  # pyright: ignore

    assert kept() == [0, 1, 2, 3]
    assert kept(top_k=2) == [1, 3]
    assert kept(top_k=9) == [0, 1, 2, 3]
    assert kept(top_p=0.79) == [1, 3]
    assert kept(top_p=0.81) == [0, 1, 3]
    assert kept(top_p=0.01) == [1]
    # Of the two kept by k the first has 0.625.
    assert kept(top_k=2, top_p=0.6) == [1]
    assert drawn(kept_logits(logits, top_k=2), torch.tensor([0.0], dtype=torch.float64)).item() == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "greedy decoding is `generate`"),
        ({"temperature": float("nan")}, "expected a temperature above 0, got nan"),
        ({"top_p": 0.0}, "expected top_p above 0"),
        ({"top_p": 1.5}, "at most 1, got 1.5"),
        ({"top_k": -1}, "expected top_k of at least 0"),
        ({"n_answers": 0}, "expected n_answers of at least 1"),
    ],
)
def test_sampling_out_of_range_is_refused(tiny: LanguageModel, wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sample(tiny, PROMPTS, seed=0, **wrong)  # pyright: ignore[reportArgumentType]


def test_a_sample_near_the_last_position_writes_less(tiny: LanguageModel) -> None:
    tiny.model.generation_config.eos_token_id = None
    long = tuple(range(5, 5 + tiny.max_positions - 2))
    (short,), (full,) = sample(tiny, [long, PROMPTS[0]], seed=0, max_new_tokens=12)
    assert len(short.tokens) <= 2
    assert full == sample(tiny, [PROMPTS[0]], seed=0, max_new_tokens=12, row_ids=[1])[0][0]
    assert sample(tiny, [], seed=0) == []
