"""Preference training starts at ln 2, equals TRL on the same tokens, and does what it is for."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import spawn
from torch.nn.utils import parameters_to_vector

from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.logprobs import AnswerLogps
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.rows import LAYOUTS
from smidgen.training.loop import Recipe
from smidgen.training.losses import MissingScores, log_ratio_difference, loss
from smidgen.training.preference import (
    check_objective,
    collate_pairs,
    needs_reference,
    pair_logps,
    preference_objective,
    reference_logps,
    train_preference,
)

# Of the tiny model's tokenizer.
END = 0


def made_pairs(n: int, end: int = END) -> list[EncodedPair]:
    """Pairs of varied lengths whose chosen answers share tokens that the rejected ones lack."""
    return [
        EncodedPair(
            idx=i,
            prompt=tuple(3 + (i * 7 + k) % 50 for k in range(2 + i % 5)),
            chosen=(*(60 + (i + k) % 9 for k in range(1 + i % 6)), end),
            rejected=(*(90 + (i + 2 * k) % 9 for k in range(1 + (i * 3) % 5)), end),
        )
        for i in range(n)
    ]


def moved(lm: LanguageModel, folder: Path) -> LanguageModel:
    """A policy that differs from its reference."""
    save_language_model(lm, folder, card="")
    policy = load_language_model(folder)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return policy


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_step_costs_ln_2(tiny: LanguageModel, tmp_path: Path, layout: Any) -> None:
    pairs = made_pairs(6)
    reference = reference_logps(tiny, pairs, ReferenceStore(tmp_path / "reference.sqlite"))
    batch = collate_pairs(pairs, reference, layout=layout)
    terms = preference_objective(loss.bind("dpo"))(AnswerLogps(tiny.model, layout), batch)
    assert terms.loss.item() == pytest.approx(math.log(2), abs=1e-5)
    assert len(batch) == 6


def test_losses_equal_trl_on_the_same_batch(tiny: LanguageModel, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    policy = moved(tiny, tmp_path / "policy")
    end = tiny.tokenizer.eos_token
    words = ["bread", "a lock", "the oak", "flour and water", "salt", "an hour"]
    rows = [
        {"prompt": f"user: {w} assistant:", "chosen": f" take {w} and wait{end}", "rejected": f" no{i}{end}"}
        for i, w in enumerate(words)
    ]
    arguments = DPOConfig(
        output_dir=str(tmp_path / "trl"),
        beta=0.3,
        per_device_train_batch_size=6,
        max_length=None,
        use_cpu=True,
        bf16=False,
        report_to="none",
        gradient_checkpointing=False,
        disable_dropout=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
    )
    trainer = DPOTrainer(
        model=policy.model,
        ref_model=tiny.model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny.tokenizer,
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    trl_loss = trainer.compute_loss(policy.model, inputs)
    pairs = pairs_of(inputs)
    reference = reference_logps(tiny, pairs, ReferenceStore(tmp_path / "reference.sqlite"))
    batch = collate_pairs(pairs, reference, layout="packed")
    ours = preference_objective(loss.bind("dpo:beta=0.3"))(AnswerLogps(policy.model, "packed"), batch).loss
    assert abs(ours.item() - math.log(2)) > 0.01
    assert ours.item() == pytest.approx(trl_loss.item(), abs=1e-4)
    gradients = []
    for value in (trl_loss, ours):
        policy.model.zero_grad()
        value.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-3)


def pairs_of(inputs: dict[str, torch.Tensor]) -> list[EncodedPair]:
    """TRL's batch (chosen rows, then rejected ones) as pairs of token ids."""
    n = len(inputs["input_ids"]) // 2

    def part(row: int, wanted: bool) -> tuple[int, ...]:
        real = inputs["attention_mask"][row].bool()
        keep = real & (inputs["completion_mask"][row].bool() == wanted)
        return tuple(inputs["input_ids"][row][keep].tolist())

    return [EncodedPair(i, part(i, False), part(i, True), part(i + n, True)) for i in range(n)]


def test_training_raises_the_margin_on_the_pairs_it_saw(tiny: LanguageModel, tmp_path: Path) -> None:
    pairs = made_pairs(16)
    reference = reference_logps(tiny, pairs, ReferenceStore(tmp_path / "reference.sqlite"))
    recipe = Recipe(learning_rate=1e-3, steps=30, batch_size=8)
    log = train_preference(tiny, pairs, reference, objective="dpo:beta=0.5", recipe=recipe, seed=0)
    assert log.rows[-1]["loss"] < 0.3 * math.log(2)
    batch = collate_pairs(pairs, reference, layout="packed")
    logps = pair_logps(AnswerLogps(tiny.model, "packed"), batch)
    assert logps.ref_chosen is not None
    assert logps.ref_rejected is not None
    gained = logps.policy_chosen.sum() - logps.ref_chosen.sum() - logps.policy_rejected.sum() + logps.ref_rejected.sum()
    assert (gained > 0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_in_half_the_bits_follows_float32(tiny: LanguageModel, tmp_path: Path, dtype: Any) -> None:
    """Loss curves within 0.03 of each other over thirty steps."""
    pairs = made_pairs(16)
    reference = reference_logps(tiny, pairs, ReferenceStore(tmp_path / "reference.sqlite"))
    start = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    curves = []
    for computing in ("float32", dtype):
        tiny.model.load_state_dict(start)
        recipe = Recipe(learning_rate=2e-4, steps=30, batch_size=8, dtype=computing)
        log = train_preference(tiny, pairs, reference, recipe=recipe, seed=0)
        curves.append(torch.tensor([row["loss"] for row in log.rows]))
    torch.testing.assert_close(curves[0], curves[1], atol=0.03, rtol=0)


def test_same_seed_same_weights(tiny: LanguageModel, tmp_path: Path) -> None:
    pairs = made_pairs(16)
    reference = reference_logps(tiny, pairs, ReferenceStore(tmp_path / "reference.sqlite"))
    start = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    ends = []
    for seed in (0, 0, 1):
        tiny.model.load_state_dict(start)
        train_preference(tiny, pairs, reference, recipe=Recipe(steps=5, batch_size=4), seed=seed)
        ends.append(torch.cat([p.detach().flatten().clone() for p in tiny.model.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def trained(lm: LanguageModel, start: dict[str, torch.Tensor], folder: Path, recipe: Recipe) -> torch.Tensor:
    """The weights after a run from `start`; behind them the loss of its last row, and the examples it saw a token."""
    lm.model.load_state_dict(start)
    pairs = made_pairs(16)
    reference = reference_logps(lm, pairs, ReferenceStore(folder / "reference.sqlite"))
    row = train_preference(lm, pairs, reference, recipe=recipe, seed=0).rows[-1]
    figures = torch.tensor([row["loss"], row["pairs_per_second"] / row["tokens_per_second"]])
    return torch.cat([*(p.detach().flatten().clone() for p in lm.model.parameters()), figures])


@pytest.mark.parametrize(
    "change",
    [{"micro_batch_tokens": 20}, {"micro_batch_tokens": 1}, {"gradient_checkpointing": True}],
    ids=["parts of 20 tokens", "parts of one pair", "checkpointed layers"],
)
def test_what_saves_memory_changes_no_weight(tiny: LanguageModel, tmp_path: Path, change: dict[str, Any]) -> None:
    """SGD-like: few steps, since Adam divides rounding errors of vanishing gradients by themselves."""
    start = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    plain = Recipe(learning_rate=1e-4, steps=4, batch_size=5, dtype="float32")
    expected = trained(tiny, start, tmp_path, plain)
    found = trained(tiny, start, tmp_path, replace(plain, **change))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    before = torch.cat([start[name].flatten() for name, _ in tiny.model.named_parameters()])
    assert (expected[:-2] - before).abs().max() > 2e-4


def test_two_processes_end_with_the_weights_and_the_log_of_one(tiny: LanguageModel, tmp_path: Path) -> None:
    start = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    recipe = Recipe(learning_rate=1e-4, steps=4, batch_size=5, micro_batch_tokens=20, dtype="float32")
    save_language_model(tiny, tmp_path / "model", card="")
    expected = trained(tiny, start, tmp_path, recipe)
    spawn(_one_of_two, args=(tmp_path, recipe), nprocs=2)
    ends = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(ends[0], ends[1])
    torch.testing.assert_close(ends[0], expected, atol=2e-5, rtol=0)


def _one_of_two(rank: int, folder: Path, recipe: Recipe) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    lm = load_language_model(folder / "model")
    start = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    torch.save(trained(lm, start, folder, recipe), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_adapters_train_from_the_reference_and_fold_in(tiny: LanguageModel, tmp_path: Path) -> None:
    pairs = made_pairs(16)
    reference = reference_logps(tiny, pairs, ReferenceStore(tmp_path / "reference.sqlite"))
    start = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    recipe = Recipe(learning_rate=3e-3, steps=30, batch_size=8, lora_rank=4)
    log = train_preference(tiny, pairs, reference, objective="dpo:beta=0.5", recipe=recipe, seed=0)
    assert log.rows[0]["loss"] > log.rows[-1]["loss"]
    assert log.rows[-1]["loss"] < 0.5 * math.log(2)
    after = tiny.model.state_dict()
    assert set(after) == set(start)
    changed = {name.rsplit(".", 2)[-2] for name in start if not torch.equal(start[name], after[name])}
    assert changed == {"c_attn", "c_proj", "c_fc"}
    assert all(p.requires_grad for p in tiny.model.parameters())
    tiny.model.load_state_dict(start)
    again = train_preference(tiny, pairs, reference, objective="dpo:beta=0.5", recipe=recipe, seed=0)
    assert [row["loss"] for row in again.rows] == [row["loss"] for row in log.rows]


# Scores, from the pairs to the loss.


def with_scores(pairs: list[EncodedPair], gap: float = 2.0) -> list[EncodedPair]:
    return [replace(pair, chosen_score=pair.idx + gap, rejected_score=float(pair.idx)) for pair in pairs]


def test_scores_reach_the_loss_beside_their_pairs(tiny: LanguageModel) -> None:
    pairs = with_scores(made_pairs(5))
    logps = pair_logps(AnswerLogps(tiny.model, "packed"), collate_pairs(pairs, None, layout="packed"))
    assert logps.chosen_score is not None
    assert logps.rejected_score is not None
    assert logps.idx is not None
    assert logps.chosen_score.tolist() == [2, 3, 4, 5, 6]
    assert logps.rejected_score.tolist() == logps.idx.tolist() == [0, 1, 2, 3, 4]
    assert logps.ref_chosen is None
    one_lacks = [*pairs[:-1], replace(pairs[-1], chosen_score=None)]
    logps = pair_logps(AnswerLogps(tiny.model, "packed"), collate_pairs(one_lacks, None, layout="packed"))
    assert logps.chosen_score is None
    assert logps.rejected_score is not None


@pytest.mark.parametrize("micro_batch_tokens", [20, 16384])
def test_training_takes_scores_to_heart(tiny: LanguageModel, tmp_path: Path, micro_batch_tokens: int) -> None:
    """Where the scores contradict the labels, refined DPO lowers the margins that DPO raises."""
    pairs = made_pairs(8)
    reference = reference_logps(tiny, pairs, ReferenceStore(tmp_path / "reference.sqlite"))
    start = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    recipe = Recipe(learning_rate=1e-3, steps=10, batch_size=4, micro_batch_tokens=micro_batch_tokens)
    margins = []
    for gap in (3.0, -3.0):
        tiny.model.load_state_dict(start)
        scored = with_scores(pairs, gap)
        train_preference(tiny, scored, reference, objective="refined_dpo:beta=0.5", recipe=recipe, seed=0)
        with torch.no_grad():
            logps = pair_logps(AnswerLogps(tiny.model, "packed"), collate_pairs(scored, reference, layout="packed"))
        margins.append(log_ratio_difference(logps).mean().item())
    assert margins[0] > 1
    assert margins[1] < -1


@pytest.mark.parametrize("objective", ["odpo", "refined_dpo", "dpo + 0.1*odpo"])
def test_missing_scores_are_named_before_anything_is_trained(tiny: LanguageModel, objective: str) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    pairs = [*with_scores(made_pairs(4)), *made_pairs(6)[4:]]
    with pytest.raises(MissingScores, match=r"expected a chosen_score .* Add both .* 2 of 6 pairs \(idx 4, 5\)\."):
        train_preference(tiny, pairs, None, objective=objective, recipe=Recipe(steps=1), seed=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny.model.state_dict().items())


def test_pairs_and_settings_that_a_loss_cannot_take_are_named_at_once() -> None:
    pairs = [*with_scores(made_pairs(3)), *with_scores(made_pairs(5), -1.0)[3:]]
    with pytest.raises(InvalidData, match=r"2 of 5 pairs \(idx 3, 4\)"):
        check_objective("odpo", pairs)
    check_objective("odpo:unordered=swap", pairs)
    with pytest.raises(UsageError, match="beta above 0"):
        check_objective("dpo:beta=-1", pairs)


def test_a_loss_of_the_policy_alone_trains_without_a_reference(tiny: LanguageModel) -> None:
    pairs = made_pairs(8)
    assert not any(needs_reference(name, pairs) for name in ("simpo", "orpo", "cpo", "nll", "simpo + 0.2*nll"))
    assert all(needs_reference(name, with_scores(pairs)) for name in ("dpo", "odpo", "nll + 0.2*dpo"))
    recipe = Recipe(learning_rate=1e-3, steps=1, batch_size=8)
    first, last = (
        train_preference(tiny, pairs, None, objective="simpo + 0.2*nll", recipe=r, seed=0).rows[-1]["loss"]
        for r in (recipe, replace(recipe, steps=10))
    )
    assert last < 0.5 * first
    with pytest.raises(ValueError, match="expected reference"):
        train_preference(tiny, pairs, None, objective="dpo", recipe=recipe, seed=0)


# Weights and groups, from the pairs to the loss.


def test_weights_and_groups_reach_the_loss_beside_their_pairs(tiny: LanguageModel) -> None:
    pairs = [replace(pair, weight=0.5 * pair.idx, group=pair.idx % 2) for pair in made_pairs(4)]
    logps = pair_logps(AnswerLogps(tiny.model, "packed"), collate_pairs(pairs, None, layout="packed"))
    assert logps.weight is not None
    assert logps.group is not None
    assert logps.weight.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert logps.group.tolist() == [0, 1, 0, 1]


def trained_weights(lm: LanguageModel, pairs: list[EncodedPair], recipe: Recipe) -> dict[str, torch.Tensor]:
    start = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    train_preference(lm, pairs, None, objective="simpo", recipe=recipe, seed=0)
    found = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    lm.model.load_state_dict(start)
    return found


def test_a_pair_of_weight_two_is_a_pair_given_twice(tiny: LanguageModel) -> None:
    """As a gradient of the sum over pairs; the objective divides by their number."""
    pairs = made_pairs(4)

    def gradient_of_sum(pairs: list[EncodedPair]) -> torch.Tensor:
        terms = preference_objective(loss.bind("simpo"))(
            AnswerLogps(tiny.model, "packed"), collate_pairs(pairs, None, layout="packed")
        )
        return len(pairs) * parameters_to_vector(torch.autograd.grad(terms.loss, list(tiny.model.parameters())))

    weighted = gradient_of_sum([replace(pair, weight=2.0 if pair.idx == 1 else 1.0) for pair in pairs])
    assert torch.allclose(weighted, gradient_of_sum([*pairs, replace(pairs[1], idx=4)]), atol=1e-5)
    assert not torch.allclose(weighted, gradient_of_sum(pairs), atol=1e-2)


def test_weights_of_one_change_nothing_and_pairs_of_weight_zero_teach_nothing(tiny: LanguageModel) -> None:
    recipe = Recipe(learning_rate=1e-3, steps=3, batch_size=4)
    pairs = made_pairs(8)
    plain = trained_weights(tiny, pairs, recipe)
    ones = trained_weights(tiny, [replace(pair, weight=1.0) for pair in pairs], recipe)
    assert all(torch.equal(plain[name], ones[name]) for name in plain)
    silent = [replace(pair, weight=0.0 if pair.idx < 4 else 1.0) for pair in pairs]
    flipped = [replace(p, chosen=p.rejected, rejected=p.chosen) if p.idx < 4 else p for p in silent]
    one, other = trained_weights(tiny, silent, recipe), trained_weights(tiny, flipped, recipe)
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, None, 1.0], r"1 of 3 pairs have none or a negative one \(idx 1\)"),
        ([1.0, 2.0, -1.0], r"1 of 3 pairs have none or a negative one \(idx 2\)"),
        ([0.0, 0.0, 0.0], "got 0 for all 3"),
    ],
)
def test_weights_that_cannot_be_meant_are_named_before_training(weights: list[float | None], message: str) -> None:
    pairs = [replace(pair, weight=weight) for pair, weight in zip(made_pairs(3), weights, strict=True)]
    with pytest.raises(InvalidData, match=message):
        check_objective("dpo", pairs)
