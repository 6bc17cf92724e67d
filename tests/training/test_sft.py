"""Supervised training learns answers and leaves prompts alone."""

import numpy as np
import pytest
import torch

from smidgen.errors import InvalidData, UsageError
from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, score_answers
from smidgen.models.rows import collate_rows
from smidgen.training.loop import Recipe
from smidgen.training.sft import AnswerBatch, answer_nll, new_language_model, train_language_model, train_on_answers

PROMPTS = [(5, 6, 7), (9, 10)]
ANSWERS = [(11, 12, 13, 0), (14, 15, 0)]


def test_the_loss_is_the_mean_over_answer_tokens(tiny: LanguageModel) -> None:
    batch = AnswerBatch(collate_rows(PROMPTS, [(answer,) for answer in ANSWERS], layout="packed"), weight=7)
    scored = score_answers(tiny, PROMPTS, [(answer,) for answer in ANSWERS])
    expected = -np.concatenate([values for group in scored for values in group]).mean()
    assert answer_nll(AnswerLogps(tiny.model, "packed"), batch).loss.item() == pytest.approx(expected, abs=1e-5)


def test_answers_are_learned_word_for_word(tiny: LanguageModel) -> None:
    log = train_on_answers(tiny, PROMPTS, ANSWERS, recipe=Recipe(learning_rate=2e-3, steps=60, batch_size=2), seed=0)
    assert log.rows[-1]["loss"] < 0.1
    assert generate(tiny, PROMPTS, max_new_tokens=6) == [answer[:-1] for answer in ANSWERS]


def test_too_long_an_example_and_none_at_all_are_explained(tiny: LanguageModel) -> None:
    with pytest.raises(InvalidData, match="--max-length"):
        train_on_answers(tiny, [(1,) * 90], [(2,) * 10], recipe=Recipe(), seed=0)
    with pytest.raises(InvalidData, match="at least one"):
        train_on_answers(tiny, [], [], recipe=Recipe(), seed=0)


def test_from_nothing_a_model_learns_its_text() -> None:
    texts = ["the cat sat on the mat. the dog ate the bone."] * 20
    lm = new_language_model(texts, shape="tiny", vocabulary=300, positions=64)
    log = train_language_model(
        lm, texts, recipe=Recipe(learning_rate=2e-3, steps=40, batch_size=8), seed=0, block_tokens=32
    )
    assert log.rows[-1]["loss"] < 0.3 * log.rows[0]["loss"]
    assert lm.tokenizer.decode(lm.tokenizer("the cat!")["input_ids"]) == "the cat!"


def test_new_models_follow_their_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    one, same, other = (new_language_model(["a b c"], shape="tiny", seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(UsageError, match="mini, small"):
        new_language_model(["a"], shape="huge")
