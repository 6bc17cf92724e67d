"""Reward training: the worked value, TRL's own loss, parts of a step, and learning what pairs say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from smidgen.data.templates import load_template
from smidgen.errors import InvalidData, SmidgenError, UsageError
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.models.reward_model import RewardModel, RowRewards, new_reward_model
from smidgen.pairs import PreferencePair, plain_pair
from smidgen.training.loop import Recipe
from smidgen.training.reward import (
    RewardPair,
    bradley_terry,
    collate_reward_pairs,
    pair_rewards,
    reward_objective,
    reward_pairs,
    train_reward,
)

PLAIN = load_template("plain")
TREES = ["oak", "pine", "elm", "ash", "fir", "yew", "beech", "lime"]
RECIPE = Recipe(learning_rate=1e-3, batch_size=4, epochs=6, dtype="float32")


def tree_pairs(**meta: Any) -> list[PreferencePair]:
    return [
        plain_pair(i, "Name a tree.", f"The {tree} is a tree.", f"Bread is no {tree}.", meta=meta)
        for i, tree in enumerate(TREES)
    ]


@pytest.fixture
def rm(tiny: LanguageModel, tmp_path: Path) -> RewardModel:
    save_language_model(tiny, tmp_path / "causal", card="")
    return new_reward_model(tmp_path / "causal", seed=5)


@pytest.fixture
def encoded(rm: RewardModel) -> list[RewardPair]:
    return reward_pairs(rm, tree_pairs(), PLAIN)[0]


def value(rm: RewardModel, pairs: list[RewardPair], centring: float = 0.0) -> torch.Tensor:
    return reward_objective(centring=centring)(RowRewards(rm.lm.model), collate_reward_pairs(rm, pairs)).loss


def test_the_worked_value() -> None:
    chosen, rejected = torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64)
    (loss,) = bradley_terry(chosen, rejected)
    assert float(loss) == pytest.approx(0.854355, abs=5e-7)
    assert math.exp(-float(loss)) == pytest.approx(0.425557, abs=5e-7)
    # −log σ(−.3 − 1) + .01 · 1.3²
    margin = bradley_terry(chosen, rejected, margin=1.0, centring=0.01)
    assert float(margin) == pytest.approx(math.log1p(math.exp(1.3)) + 0.0169, abs=1e-12)


def test_gradients_are_finite_differences_also_at_extremes() -> None:
    rewards = torch.tensor([[0.5, 0.8], [-3.0, 2.0], [60.0, -60.0]], dtype=torch.float64, requires_grad=True)

    def total(r: torch.Tensor) -> torch.Tensor:
        return bradley_terry(r[:, 0], r[:, 1], margin=0.3, centring=0.02)

    assert torch.autograd.gradcheck(total, rewards)
    assert torch.isfinite(bradley_terry(torch.tensor([-1e4]), torch.tensor([1e4]))).all()


@pytest.mark.parametrize("margins", [False, True])
@pytest.mark.parametrize("centring", [None, 0.01])
def test_loss_and_gradients_are_trls(
    rm: RewardModel, encoded: list[RewardPair], margins: bool, centring: float | None
) -> None:
    """TRL's own compute_loss on the same model and rows."""
    from collections import defaultdict

    from trl.trainer.reward_trainer import RewardTrainer

    pairs = [replace(pair, margin=0.1 * i) for i, pair in enumerate(encoded)] if margins else encoded
    rows = collate_reward_pairs(rm, pairs).rows
    accelerator = SimpleNamespace(gather=lambda v: v, gather_for_metrics=lambda v: v)
    trainer: Any = SimpleNamespace(
        model=rm.lm.model,
        args=SimpleNamespace(center_rewards_coefficient=centring),
        accelerator=accelerator,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs: dict[str, Any] = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask}
    inputs |= {"margin": torch.tensor([pair.margin for pair in pairs])} if margins else {}
    peers: Any = RewardTrainer.compute_loss(trainer, rm.lm.model, inputs)
    parameters = [p for p in rm.lm.model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(peers, parameters)
    ours = value(rm, pairs, centring or 0.0)
    torch.testing.assert_close(ours, peers, atol=1e-6, rtol=0)
    for a, b in zip(torch.autograd.grad(ours, parameters), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_a_weight_is_how_often_a_pair_counts(rm: RewardModel, encoded: list[RewardPair]) -> None:
    first, second = encoded[:2]
    thrice = value(rm, [first, first, first, second])
    torch.testing.assert_close(value(rm, [replace(first, weight=3.0), second]), thrice, atol=1e-6, rtol=0)
    assert not torch.allclose(value(rm, [first, second]), thrice, atol=1e-3)


def test_a_step_in_parts_is_a_step_at_once(rm: RewardModel, encoded: list[RewardPair], tmp_path: Path) -> None:
    pairs = [replace(pair, weight=1.0 + i) for i, pair in enumerate(encoded)]
    ends = []
    for micro_batch_tokens in (1, 10_000):
        other = new_reward_model(tmp_path / "causal", seed=5)
        recipe = replace(RECIPE, epochs=1, steps=2, micro_batch_tokens=micro_batch_tokens)
        train_reward(other, pairs, recipe=recipe, seed=0, centring=0.01)
        ends.append(other.score([p.prompt for p in tree_pairs()], TREES, PLAIN))
    np.testing.assert_allclose(ends[0], ends[1], atol=2e-4)
    assert np.abs(ends[0] - rm.score([p.prompt for p in tree_pairs()], TREES, PLAIN)).max() > 0.01


def test_training_learns_the_preferences(rm: RewardModel, encoded: list[RewardPair]) -> None:
    rows = []
    log = train_reward(rm, encoded, recipe=RECIPE, seed=0, on_log=rows.append)
    chosen, rejected = pair_rewards(rm, encoded)
    assert (chosen > rejected).all()
    assert rows == log.rows
    assert log.rows[-1]["step"] == 12


def test_centring_pulls_the_rewards_to_a_mean_of_0(rm: RewardModel, encoded: list[RewardPair]) -> None:
    with torch.no_grad():
        before = np.add(*pair_rewards(rm, encoded))
        rm.lm.model.score.weight.mul_(4 / before.mean())  # pyright: ignore
        before = np.add(*pair_rewards(rm, encoded))
    train_reward(rm, encoded, recipe=RECIPE, seed=0, centring=1.0)
    assert abs(before.mean()) > 3.9
    assert abs(np.add(*pair_rewards(rm, encoded)).mean()) < 1


def test_scores_become_margins_and_weights_are_read(rm: RewardModel) -> None:
    pairs, left_out = reward_pairs(
        rm, tree_pairs(chosen_score="3", rejected_score=1.5, weight="2"), PLAIN, margin_scale=0.5
    )
    assert not left_out
    assert {(pair.margin, pair.weight) for pair in pairs} == {(0.75, 2.0)}
    assert {(p.margin, p.weight) for p in reward_pairs(rm, tree_pairs(chosen_score=3), PLAIN)[0]} == {(0.0, 1.0)}


def test_bad_columns_are_named(rm: RewardModel) -> None:
    with pytest.raises(InvalidData, match=r"finite number in the column chosen_score .* 8 of 8 .*idx 0, 1, 2, 3, 4, …"):
        reward_pairs(rm, tree_pairs(), PLAIN, margin_scale=1.0)
    for weight in (0, "heavy", float("nan"), -1):
        pairs = [*tree_pairs(weight=1), plain_pair(9, "Why?", "Yes.", "No.", meta={"weight": weight})]
        with pytest.raises(
            InvalidData, match=r"a number above 0 in the column weight .* 1 of 9 pairs without \(idx 9\)"
        ):
            reward_pairs(rm, pairs, PLAIN)
    for scale in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="margin_scale of at least 0"):
            reward_pairs(rm, tree_pairs(), PLAIN, margin_scale=scale)
        with pytest.raises(UsageError, match="centring of at least 0"):
            reward_objective(centring=scale)


def test_what_can_not_be_trained_on_is_left_out_and_counted(rm: RewardModel) -> None:
    pairs = [*tree_pairs(), plain_pair(20, "Why?", "because " * 90, "No."), plain_pair(21, "Why?", "It is.", "No.")]
    kept, left_out = reward_pairs(rm, pairs, PLAIN)
    assert [pair.idx for pair in kept] == [*range(8), 21]
    assert [(q.idx, q.reason) for q in left_out] == [(20, "over_long")]
    kept, left_out = reward_pairs(rm, pairs, PLAIN, max_length=20)
    assert all(max(len(pair.chosen), len(pair.rejected)) <= 20 for pair in kept)
    assert len(kept) + len(left_out) == len(pairs)


def test_bad_trainings_are_refused(rm: RewardModel, encoded: list[RewardPair]) -> None:
    with pytest.raises(InvalidData, match="at least one pair"):
        train_reward(rm, [], recipe=RECIPE, seed=0)
    with pytest.raises(UsageError, match="lora_rank 0"):
        train_reward(rm, encoded, recipe=replace(RECIPE, lora_rank=2), seed=0)
    with pytest.raises(SmidgenError, match=r"expected a finite (loss|gradient), got"):
        train_reward(rm, encoded, recipe=replace(RECIPE, learning_rate=1e30), seed=0)
