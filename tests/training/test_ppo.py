"""PPO: at the start nothing is clipped and KL is 0; seeds decide all; the reward rises while KL is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smidgen.errors import InvalidData, UsageError
from smidgen.models.adapters import adapted, adapter_off
from smidgen.models.load import LanguageModel, fingerprint
from smidgen.models.logprobs import AnswerLogps, score_answers
from smidgen.models.rows import collate_rows
from smidgen.models.values import ValuedAnswers
from smidgen.pairs import Messages, messages_from
from smidgen.training.checkpoints import Keep
from smidgen.training.loop import Recipe
from smidgen.training.ppo import (
    Diary,
    PPOBatch,
    _asked,
    advantages_of,
    measures,
    next_kl_coef,
    ppo_objective,
    train_ppo,
)
from smidgen.training.ppo_settings import PPOSettings
from smidgen.training.rollouts import Prompt, Rollout, roll_out

PROMPTS = [Prompt(messages_from(f"{i}", "user"), (5 + i, 6, 7 + i)) for i in range(6)]
SMALL = PPOSettings(rollout_size=8, rollout_epochs=2, max_new_tokens=6)
RECIPE = Recipe(learning_rate=1e-3, weight_decay=0, batch_size=4, steps=8, dtype="float32")


def low_letters(prompts: Sequence[Messages], answers: Sequence[str]) -> np.ndarray:
    """The share of letters from a to m."""
    return np.array([sum(c in "abcdefghijklm" for c in answer) / max(1, len(answer)) for answer in answers])


def trained(lm: LanguageModel, settings: PPOSettings = SMALL, recipe: Recipe = RECIPE, seed: int = 0):
    lm = replace(lm, model=deepcopy(lm.model))
    log = train_ppo(lm, PROMPTS, low_letters, settings=settings, recipe=recipe, seed=seed)
    return lm, log.rows


def rollout_of(lm: LanguageModel, policy: ValuedAnswers, **settings: int) -> Rollout:
    chosen = {"max_new_tokens": 6, "seed": 1, **settings}
    reference = AnswerLogps(lm.model, "packed")
    return roll_out(lm, policy, reference, low_letters, PROMPTS, layout="packed", **chosen)  # pyright: ignore


def test_before_the_first_step_all_ratios_are_1_and_the_loss_is_the_value_heads(tiny: LanguageModel) -> None:
    policy = ValuedAnswers(AnswerLogps(tiny.model, "packed"))
    rollout = rollout_of(tiny, policy)
    advantages, returns = advantages_of(rollout, SMALL, kl_coef=0.1)
    rows = collate_rows([p.tokens for p in PROMPTS], [(a,) for a in rollout.answers], layout="packed")
    batch = PPOBatch(rows, rollout.policy, rollout.values, advantages, returns, weight=1)
    diary = Diary()
    terms = ppo_objective(SMALL, diary)(policy, batch)
    diary.write(row := {})
    assert row["clip_fraction"] == 0
    assert row["policy_loss"] == pytest.approx(0, abs=1e-5)  # whitened advantages add up to 0
    expected = 0.5 * float((returns[rollout.mask] ** 2).mean())
    assert row["value_loss"] == pytest.approx(expected, rel=1e-4)
    assert terms.loss.item() == pytest.approx(row["policy_loss"] + 0.1 * row["value_loss"], abs=1e-6)
    # The policy gradient itself: −Σ A ∇ log π, averaged over tokens.
    (gradient,) = torch.autograd.grad(
        ppo_objective(replace(SMALL, value_coef=0), diary)(policy, batch).loss, policy_bias(tiny)
    )
    logps = AnswerLogps(tiny.model, "packed")(rows)
    (plain,) = torch.autograd.grad(-(advantages * logps.values)[logps.mask].mean(), policy_bias(tiny))
    torch.testing.assert_close(gradient, plain, atol=1e-5, rtol=1e-4)


def policy_bias(lm: LanguageModel) -> torch.Tensor:
    return dict(lm.model.named_parameters())["transformer.ln_f.bias"]


def test_an_answer_that_does_not_end_is_worth_less(tiny: LanguageModel) -> None:
    rollout = rollout_of(tiny, ValuedAnswers(AnswerLogps(tiny.model, "packed")))
    assert not rollout.ended.any()
    plain = replace(SMALL, whiten_rewards=False, lam=1.0, missing_end_penalty=0.0)
    _, free = advantages_of(rollout, plain, kl_coef=0.1)
    _, penalised = advantages_of(rollout, replace(plain, missing_end_penalty=2.0), kl_coef=0.1)
    torch.testing.assert_close((free - penalised)[rollout.mask], torch.full((int(rollout.mask.sum()),), 2.0))
    assert measures(rollout, free)["reward"] == float(rollout.scores.mean())
    assert measures(rollout, free)["ended"] == 0


def test_normalised_scores_are_measured_from_where_the_model_starts(tiny: LanguageModel) -> None:
    rollout = replace(rollout_of(tiny, ValuedAnswers(AnswerLogps(tiny.model, "packed"))), ended=torch.ones(6).bool())
    settings = replace(SMALL, whiten_rewards=False, lam=1.0, kl_coef=0.0)
    moved = replace(rollout, scores=7 + 3 * rollout.scores)

    def scores_of(given: Rollout, first: dict[str, float] | None = None, **changed: bool) -> torch.Tensor:
        """Without discount, KL and values, the return at the first token is the score."""
        return advantages_of(given, replace(settings, **changed), kl_coef=0.0, first=first)[1][:, 0]  # pyright: ignore

    found = scores_of(moved, normalise_scores=True)
    torch.testing.assert_close(found, scores_of(rollout, normalise_scores=True))
    assert float(found.mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.std()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(scores_of(moved), moved.scores)
    first = {"reward": 5.0, "reward_standard_error": 2 / 6**0.5}
    torch.testing.assert_close(scores_of(moved, first, normalise_scores=True), (moved.scores - 5) / 2)
    alike = replace(rollout, scores=torch.full((6,), 3.0))
    assert not scores_of(alike, normalise_scores=True).any()


def test_rows_say_what_happened_once_a_rollout(tiny: LanguageModel) -> None:
    _, rows = trained(tiny)
    assert [row["step"] for row in rows] == [4, 8]
    assert rows[0]["kl"] == rows[0]["kl_k3"] == 0
    assert rows[0]["explained_variance"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["kl_k3"] > 0
    for row in rows:
        names = {"reward", "reward_standard_error", "entropy", "answer_tokens", "ended"}
        assert names | {"policy_loss", "value_loss", "clip_fraction", "kl_coef"} <= set(row)
        assert row["loss"] == pytest.approx(row["policy_loss"] + 0.1 * row["value_loss"], abs=0.05)
    assert rows[0]["kl_coef"] == 0.05
    assert rows[1]["kl_coef"] == pytest.approx(0.05 * 0.98)
    assert trained(tiny, replace(SMALL, kl_target=0.0))[1][1]["kl_coef"] == 0.05
    # Steps that end within a rollout still have their row.
    assert [row["step"] for row in trained(tiny, recipe=replace(RECIPE, steps=5))[1]] == [4, 5]


def test_the_price_of_the_next_rollout_follows_from_the_log() -> None:
    assert next_kl_coef([], SMALL) == 0.05
    rows = [{"kl_coef": 0.2, "kl": 60.0}]
    assert next_kl_coef(rows, SMALL) == pytest.approx(0.204)
    assert next_kl_coef(rows, replace(SMALL, kl_target=0.0)) == 0.2


def test_the_seed_decides_everything(tiny: LanguageModel) -> None:
    (one, rows), (same, _), (other, _) = trained(tiny), trained(tiny), trained(tiny, seed=1)
    assert fingerprint(one.model) == fingerprint(same.model)
    assert fingerprint(one.model) not in (fingerprint(other.model), fingerprint(tiny.model))
    assert not any(name.startswith("value_head") for name in one.model.state_dict())
    assert len(rows) == 2


def test_killed_and_resumed_equals_never_killed(tiny: LanguageModel, tmp_path: Path) -> None:
    recipe, settings = replace(RECIPE, steps=12), replace(SMALL, kl_gain=0.7, normalise_scores=True)
    keep = Keep(folder=tmp_path, every_steps=1, most=9)

    def run(stop_at: int | None = None) -> tuple[LanguageModel, list[dict[str, float]]]:
        def answer(number: int, rollout: Rollout) -> None:
            if number == stop_at:
                raise KeyboardInterrupt

        lm, rows = replace(tiny, model=deepcopy(tiny.model)), []
        train_ppo(
            lm, PROMPTS, low_letters, settings=settings, recipe=recipe, seed=0,
            on_log=rows.append, on_rollout=answer, keep=keep,
        )  # fmt: skip
        return lm, rows

    whole, rows = trained(tiny, settings, recipe)
    with pytest.raises(KeyboardInterrupt):
        run(stop_at=2)
    # Between rollouts only: in the middle of one, its answers would be lost.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4", "step-8"]
    resumed, again = run()
    assert fingerprint(resumed.model) == fingerprint(whole.model)
    timed = {"pairs_per_second", "tokens_per_second", "peak_memory_bytes"}
    for one, other in zip(rows, again, strict=True):
        assert {k: v for k, v in one.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}


def test_prompts_come_pass_after_pass(tiny: LanguageModel) -> None:
    rollouts = [_asked(6, number, 4, seed=1) for number in range(6)]
    flat = [i for rollout in rollouts for i in rollout]
    passes = [flat[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(one) == list(range(6)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert _asked(2, 0, 5, seed=1)[:4] == [
        i for p in (0, 1) for i in sorted(range(2), key=_asked(2, p, 2, seed=1).index)
    ]


@pytest.mark.parametrize("changed", [{"micro_batch_tokens": 20}, {"gradient_checkpointing": True}])
def test_how_a_step_is_computed_changes_nothing(tiny: LanguageModel, changed: dict[str, int]) -> None:
    (one, _), (other, _) = trained(tiny), trained(tiny, recipe=replace(RECIPE, **changed))  # pyright: ignore
    for ours, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_with_its_adapter_off_a_policy_is_its_reference(tiny: LanguageModel) -> None:
    asked, answers = [(5, 6, 7)], [((8, 9, 10),)]
    (before,) = score_answers(tiny, asked, answers)[0]
    with adapted(tiny, rank=4):
        with torch.no_grad():
            for name, parameter in tiny.model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.05)
        (moved,) = score_answers(tiny, asked, answers)[0]
        with adapter_off(tiny):
            (off,) = score_answers(tiny, asked, answers)[0]
        (again,) = score_answers(tiny, asked, answers)[0]
        assert all(p.requires_grad for name, p in tiny.model.named_parameters() if "lora_" in name)
    np.testing.assert_allclose(off, before, atol=1e-5)
    assert np.abs(moved - before).max() > 0.01
    assert np.array_equal(moved, again)


def test_an_adapters_kl_is_to_the_model_it_started_from(tiny: LanguageModel) -> None:
    rows = trained(tiny, recipe=replace(RECIPE, lora_rank=4, learning_rate=5e-3))[1]
    assert rows[0]["kl"] == 0
    assert rows[1]["kl_k3"] > 1e-4


def test_the_reward_rises_and_a_price_on_kl_keeps_the_policy_near(tiny: LanguageModel) -> None:
    recipe = replace(RECIPE, batch_size=24, steps=24, learning_rate=2e-3)
    settings = PPOSettings(rollout_size=48, rollout_epochs=2, max_new_tokens=8, kl_target=0.0, kl_coef=0.0)
    free = trained(tiny, settings, recipe)[1]
    dear = trained(tiny, replace(settings, kl_coef=2.0), recipe)[1]
    first, last = free[0], free[-1]
    spread = 1.96 * (first["reward_standard_error"] ** 2 + last["reward_standard_error"] ** 2) ** 0.5
    assert last["reward"] - first["reward"] > spread
    assert dear[-1]["kl"] < 0.5 * free[-1]["kl"]


def test_what_cannot_be_trained_on_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(InvalidData, match="at least one prompt"):
        train_ppo(tiny, [], low_letters, settings=SMALL, recipe=RECIPE, seed=0)
    with pytest.raises(UsageError, match="batch_size of at most rollout_size 8, got 16"):
        trained(tiny, recipe=replace(RECIPE, batch_size=16))
    with pytest.raises(UsageError, match="whole weights"):
        train_ppo(tiny, PROMPTS, low_letters, settings=SMALL, recipe=RECIPE, seed=0, shard=True)
    for wrong, message in (
        ({"clip": 0.0}, "expected clip above 0, got 0.0"),
        ({"kl_coef": -1.0}, "expected kl_coef of at least 0"),
        ({"kl_coef": float("nan")}, "expected kl_coef of at least 0, got nan"),
        ({"lam": 1.2}, "expected lam from 0 to 1"),
        ({"rollout_size": 0}, "expected rollout_size above 0"),
    ):
        with pytest.raises(UsageError, match=message):
            PPOSettings(**wrong)  # pyright: ignore[reportArgumentType]
