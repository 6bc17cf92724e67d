"""A rollout: what was sampled, scored by the engine under policy and reference, and by the reward as text."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from smidgen.errors import InvalidData
from smidgen.models.generate import end_ids, sample
from smidgen.models.load import LanguageModel, checkpointed
from smidgen.models.logprobs import AnswerLogps, score_answers
from smidgen.models.rewards import Reward
from smidgen.models.values import ValuedAnswers
from smidgen.pairs import Messages, messages_from
from smidgen.training.rollouts import Prompt, Rollout, roll_out

PROMPTS = [
    Prompt(messages_from(f"number {i}", "user"), tokens) for i, tokens in enumerate([(5, 6, 7), (9,), (8, 3, 4)])
]


def letters(prompts: Sequence[Messages], answers: Sequence[str]) -> np.ndarray:
    return np.array([float(len(answer)) for answer in answers])


@pytest.fixture
def rolled(tiny: LanguageModel) -> Callable[..., Rollout]:
    """Rolls out with the tiny model as its own reference; tokens below 20 end an answer."""
    tiny.model.generation_config.eos_token_id = list(range(20))
    scorer = AnswerLogps(tiny.model, "packed")

    def call(reward: Reward = letters, **settings: int | str) -> Rollout:
        chosen = {"max_new_tokens": 10, "seed": 3, **settings}
        return roll_out(tiny, ValuedAnswers(scorer), scorer, reward, PROMPTS, layout="packed", **chosen)  # pyright: ignore

    return call


def test_every_token_is_scored_by_the_engine(tiny: LanguageModel, rolled: Callable[..., Rollout]) -> None:
    found = rolled()
    drawn = [answer for (answer,) in sample(tiny, [p.tokens for p in PROMPTS], seed=3, max_new_tokens=10)]
    assert found.ended.tolist() == [answer.end is not None for answer in drawn]
    assert set(found.ended.tolist()) == {True, False}
    for i, (answer, completion) in enumerate(zip(found.answers, drawn, strict=True)):
        assert tuple(answer) == completion.tokens + (() if completion.end is None else (completion.end,))
        (expected,) = score_answers(tiny, [PROMPTS[i].tokens], [(answer,)])[0]
        n = len(answer)
        assert found.mask[i].sum() == n
        np.testing.assert_allclose(found.policy[i, :n].numpy(), expected, atol=1e-5)
        assert torch.equal(found.ref[i], found.policy[i])
        assert not found.policy[i, n:].any()
        # What ends an answer is a token that was learned from, and no part of what the reward reads.
        assert (answer[-1] in end_ids(tiny)) == bool(found.ended[i])
        text = str(tiny.tokenizer.decode(list(completion.tokens), skip_special_tokens=True))
        assert found.texts[i] == text.removeprefix(" ")
    assert found.scores.tolist() == [float(len(text)) for text in found.texts]
    assert not found.policy.requires_grad


def test_the_same_seed_the_same_rollout_in_batches_of_any_size(rolled: Callable[..., Rollout]) -> None:
    one, same, other = rolled(), rolled(batch_tokens=1), rolled(seed=4)
    assert one.answers == same.answers != other.answers
    torch.testing.assert_close(one.policy, same.policy, atol=1e-5, rtol=0)
    assert torch.equal(one.mask, same.mask)


def test_checkpointed_layers_change_nothing_and_stay_in_training_mode(
    tiny: LanguageModel, rolled: Callable[..., Rollout]
) -> None:
    plain = rolled()
    with checkpointed(tiny.model):
        assert rolled().answers == plain.answers
        assert tiny.model.training
    assert not tiny.model.training


def test_the_reward_reads_what_was_said_and_nothing_of_the_template(rolled: Callable[..., Rollout]) -> None:
    said = rolled(lead="").texts
    assert rolled(lead=said[0][:3]).texts[0] == said[0][3:]
    assert rolled(lead="no such thing").texts == said


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda prompts, answers: np.full(len(answers), np.nan), "expected finite rewards, got nan for 3 of 3"),
        (lambda prompts, answers: np.array([1.0, np.inf, 1.0]), "got inf for 1 of 3 answers"),
        (lambda prompts, answers: np.zeros(2), r"one reward for each of 3 answers, got an array of shape \(2,\)"),
        (lambda prompts, answers: np.zeros((3, 1)), r"shape \(3, 1\)"),
    ],
)
def test_a_reward_that_is_no_number_an_answer_is_refused(
    rolled: Callable[..., Rollout], wrong: Reward, message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        rolled(wrong)
