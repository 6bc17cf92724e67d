"""KTO on single answers: hand-worked values, one reference point a step however it is cut, and what it is for."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from smidgen.data.answers import EncodedAnswer
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.logprobs import AnswerLogps, MarkedLogps, TokenLogps, score_answers
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.rows import LAYOUTS, Layout
from smidgen.training.loop import Recipe
from smidgen.training.losses.marked import (
    MissingMismatched,
    apo_zero_unpaired,
    balance_advice,
    bco_unpaired,
    kto_unpaired,
)
from smidgen.training.unpaired import (
    Mismatch,
    collate_answers,
    mean_log_ratio,
    mismatches,
    train_unpaired,
    unpaired_objective,
)

END = 0
Z = math.log(4 / 3)


def marked(*ratios: float, desirable: tuple[bool, ...], mismatched: float | None = 0.0) -> MarkedLogps:
    """Answers of one token with these log-ratios."""
    mask = torch.ones(len(ratios), 1, dtype=torch.bool)
    ref = torch.full((len(ratios), 1), -2.0, dtype=torch.float64)
    return MarkedLogps(
        policy=TokenLogps(ref + torch.tensor(ratios, dtype=torch.float64)[:, None], mask),
        ref=TokenLogps(ref, mask),
        desirable=torch.tensor(desirable),
        mismatched_log_ratio=None if mismatched is None else torch.tensor(mismatched, dtype=torch.float64),
    )


def test_values_worked_by_hand() -> None:
    """The week-5 sheet, β = 2: the good answer at the reference, the bad one ln(4/3) below it."""
    sheet = marked(0.0, -Z, desirable=(True, False))
    assert kto_unpaired(sheet, beta=2).tolist() == pytest.approx([0.5, 0.36], abs=1e-12)
    # 1 − σ(2(0 − Z)) = .64 and 1 − σ(2(Z + Z)) = 1 / (1 + (4/3)^4) = 81/337.
    above = marked(0.0, -Z, desirable=(True, False), mismatched=Z)
    assert kto_unpaired(above, beta=2).tolist() == pytest.approx([0.64, 81 / 337], abs=1e-12)
    below = marked(0.0, -Z, desirable=(True, False), mismatched=-3.0)
    assert kto_unpaired(below, beta=2).tolist() == pytest.approx([0.5, 0.36], abs=1e-12)
    weighed = kto_unpaired(sheet, beta=2, desirable_weight=3.0, undesirable_weight=0.5)
    assert weighed.tolist() == pytest.approx([1.5, 0.18], abs=1e-12)
    assert apo_zero_unpaired(sheet, beta=2).tolist() == pytest.approx([0.5, 0.36], abs=1e-12)
    assert bco_unpaired(sheet, beta=2).tolist() == pytest.approx([math.log(2), -math.log(0.64)], abs=1e-12)


@pytest.mark.parametrize("function", [kto_unpaired, apo_zero_unpaired, bco_unpaired])
def test_gradients_raise_the_good_and_lower_the_bad_and_equal_finite_differences(
    function: Callable[..., Tensor],
) -> None:
    made = marked(0.4, -0.7, 1.1, desirable=(True, False, False), mismatched=0.3)
    values = made.policy.values.clone().requires_grad_()

    def cost(policy: Tensor) -> Tensor:
        mask = made.policy.mask
        return function(
            MarkedLogps(
                policy=TokenLogps(policy, mask),
                ref=made.ref,
                desirable=made.desirable,
                mismatched_log_ratio=made.mismatched_log_ratio,
            ),
            beta=0.5,
        ).sum()

    (gradient,) = torch.autograd.grad(cost(values), values)
    assert gradient.sign().flatten().tolist() == [-1, 1, 1]
    assert torch.autograd.gradcheck(cost, (values,))


def test_the_reference_point_takes_no_gradient_and_must_be_given() -> None:
    made = marked(0.4, -0.7, desirable=(True, False))
    point = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    values = made.policy.values.clone().requires_grad_()
    loss = kto_unpaired(
        MarkedLogps(
            policy=TokenLogps(values, made.policy.mask),
            ref=made.ref,
            desirable=made.desirable,
            mismatched_log_ratio=point,
        )
    )
    _, to_point = torch.autograd.grad(loss.sum(), [values, point], allow_unused=True)
    assert to_point is None
    with pytest.raises(MissingMismatched, match="expected the log-ratio of mismatched answers"):
        kto_unpaired(marked(0.4, desirable=(True,), mismatched=None))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["beta", "desirable_weight", "undesirable_weight"])
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"expected {name} above 0"):
        kto_unpaired(marked(0.4, desirable=(True,)), **{name: value})


def test_advice_names_the_weights_that_would_balance() -> None:
    answers = [EncodedAnswer(i, (1,), (2,), desirable=i < 20) for i in range(100)]
    assert "desirable_weight from 4 to 5.33" in (balance_advice(answers) or "")
    for weight in (4.0, 5.0, 16 / 3):
        assert balance_advice(answers, desirable_weight=weight) is None
    assert balance_advice(answers, undesirable_weight=0.25) is None
    assert "got 1.5" in (balance_advice(answers, desirable_weight=6.0) or "")
    assert "no undesirable ones of 20" in (balance_advice(answers[:20]) or "")
    assert "no desirable ones of 80" in (balance_advice(answers[20:]) or "")


def made_answers(n: int) -> list[EncodedAnswer]:
    """Good answers hold tokens from 60 up, bad ones from 90 up; prompts and answers of varied lengths."""
    return [
        EncodedAnswer(
            idx=i,
            prompt=tuple(3 + (i * 7 + k) % 20 for k in range(2 + i % 5)),
            answer=(*((60 if i % 2 else 90) + (i + k) % 9 for k in range(1 + i % 6)), END),
            desirable=i % 2 == 1,
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


def test_each_prompt_meets_the_answer_of_the_one_before() -> None:
    one, two, three = made_answers(3)
    assert mismatches([one, two, three], 100) == [
        Mismatch(one.prompt, three.answer),
        Mismatch(two.prompt, one.answer),
        Mismatch(three.prompt, two.answer),
    ]
    assert mismatches([one], 100) == []
    # Cut to fit behind a longer prompt, to one token at least.
    assert [len(m.answer) for m in mismatches([one, two, three], 5)] == [3, 2, 1]


def naive_point(policy: LanguageModel, ref: LanguageModel, answers: list[EncodedAnswer]) -> float:
    found = []
    for i, own in enumerate(answers):
        swapped = [own.prompt], [(answers[i - 1].answer,)]
        found += [score_answers(lm, *swapped)[0][0].sum() for lm in (policy, ref)]
    return float(np.mean(found[::2]) - np.mean(found[1::2]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_objective_equals_the_loop_over_answers(tiny: LanguageModel, tmp_path: Path, layout: Layout) -> None:
    policy, answers = moved(tiny, tmp_path / "policy"), made_answers(6)
    scored = [[score_answers(lm, [a.prompt], [(a.answer,)])[0][0] for a in answers] for lm in (policy, tiny)]
    rows = [
        Mismatch(m.prompt, m.answer, float(score_answers(tiny, [m.prompt], [(m.answer,)])[0][0].sum()))
        for m in mismatches(answers, 97)
    ]
    scorer = AnswerLogps(policy.model, layout)
    expected_point = naive_point(policy, tiny, answers)
    for most in (16384, 12):
        recipe = Recipe(micro_batch_tokens=most, dtype="float32")
        point = mean_log_ratio(scorer, rows, recipe=recipe, device=policy.device)
        assert point.item() == pytest.approx(expected_point, abs=1e-4)
        assert not point.requires_grad
    assert abs(expected_point) > 1e-3
    z0 = max(0.0, expected_point)
    ratios = [float(p.sum() - r.sum()) for p, r in zip(*scored, strict=True)]
    expected = [
        1 / (1 + math.exp((1 if a.desirable else -1) * 0.5 * (ratio - z0)))
        for a, ratio in zip(answers, ratios, strict=True)
    ]
    objective = unpaired_objective(partial(kto_unpaired, beta=0.5))
    batch = collate_answers(answers, scored[1], point, layout=layout)
    assert objective(scorer, batch).loss.item() == pytest.approx(np.mean(expected), abs=1e-5)


def test_at_the_start_every_answer_costs_a_half(tiny: LanguageModel, tmp_path: Path) -> None:
    log = train_unpaired(tiny, made_answers(8), ReferenceStore(tmp_path / "ref.sqlite"), recipe=Recipe(steps=1), seed=0)
    assert log.rows[0]["loss"] == pytest.approx(0.5, abs=1e-3)


def test_a_step_in_parts_is_the_step_whole(tiny: LanguageModel, tmp_path: Path) -> None:
    """Without a shared reference point it would not be: it moves away from 0 from the second step on."""
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    ends = []
    for seed, most in ((0, 16384), (0, 24), (1, 16384)):
        tiny.model.load_state_dict(before)
        recipe = Recipe(learning_rate=1e-3, steps=4, batch_size=8, micro_batch_tokens=most, dtype="float32")
        store = ReferenceStore(tmp_path / "ref.sqlite")
        train_unpaired(
            tiny, made_answers(16), store, objective=partial(kto_unpaired, beta=2.0), recipe=recipe, seed=seed
        )
        ends.append(torch.cat([p.detach().flatten().clone() for p in tiny.model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], atol=1e-4, rtol=0)
    assert (ends[0] - ends[2]).abs().max() > 1e-3


def trained(lm: LanguageModel, folder: Path, name: str) -> Tensor:
    recipe = Recipe(learning_rate=1e-3, steps=3, batch_size=5, micro_batch_tokens=24, dtype="float32")
    store = ReferenceStore(folder / f"{name}.sqlite")
    train_unpaired(lm, made_answers(11), store, objective=partial(kto_unpaired, beta=2.0), recipe=recipe, seed=0)
    return torch.cat([p.detach().flatten() for p in lm.model.parameters()])


@pytest.mark.slow
def test_two_processes_share_the_reference_point(tiny: LanguageModel, tmp_path: Path) -> None:
    """Of eleven answers in batches of five, one step has one: no mismatched answer, and a process with nothing."""
    save_language_model(tiny, tmp_path / "model", card="")
    expected = trained(tiny, tmp_path, "alone")
    spawn(_one_of_two, args=(tmp_path,), nprocs=2)
    ends = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(ends[0], ends[1])
    torch.testing.assert_close(ends[0], expected, atol=1e-4, rtol=0)


def _one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.save(trained(load_language_model(folder / "model"), folder, str(rank)), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("function", [kto_unpaired, bco_unpaired])
def test_training_raises_good_answers_and_lowers_bad_ones(
    tiny: LanguageModel, tmp_path: Path, function: Callable[..., Tensor]
) -> None:
    answers = made_answers(16)
    rows = [a.prompt for a in answers], [(a.answer,) for a in answers]
    before = score_answers(tiny, *rows)
    recipe = Recipe(learning_rate=1e-3, steps=20, batch_size=8)
    store = ReferenceStore(tmp_path / "ref.sqlite")
    log = train_unpaired(tiny, answers, store, objective=partial(function, beta=0.5), recipe=recipe, seed=0)
    assert log.rows[-1]["loss"] < 0.35
    after = score_answers(tiny, *rows)
    moves = np.array([a[0].sum() - b[0].sum() for a, b in zip(after, before, strict=True)])
    good = np.array([a.desirable for a in answers])
    assert moves[good].min() > moves[~good].max()


def test_an_answer_of_weight_2_counts_twice(tiny: LanguageModel) -> None:
    answers = made_answers(3)
    heavy = [replace(answers[0], weight=2.0), *answers[1:]]
    ref = [np.full(len(a.answer), -3.0, dtype=np.float32) for a in answers]
    scorer, objective = AnswerLogps(tiny.model, "packed"), unpaired_objective(apo_zero_unpaired)

    def cost(members: list[EncodedAnswer], n: int) -> float:
        return objective(scorer, collate_answers(members, ref[: len(members)], None, layout="packed")).loss.item() * n

    assert cost(heavy, 3) == pytest.approx(cost(answers, 3) + cost(answers[:1], 1), abs=1e-6)


def test_what_cannot_be_trained_on_is_refused(tiny: LanguageModel, tmp_path: Path) -> None:
    store, answers = ReferenceStore(tmp_path / "ref.sqlite"), made_answers(4)
    train = partial(train_unpaired, tiny, store=store, seed=0)
    with pytest.raises(InvalidData, match="at least one answer"):
        train([], recipe=Recipe(steps=1))
    with pytest.raises(InvalidData, match="one with a weight above 0"):
        train([replace(a, weight=0.0) for a in answers], recipe=Recipe(steps=1))
    with pytest.raises(UsageError, match="batch_size of at least 2"):
        train(answers, recipe=Recipe(steps=1, batch_size=1))
    train(answers, objective=bco_unpaired, recipe=Recipe(steps=1, batch_size=1))
    with pytest.raises(InvalidData, match="at most 97"):
        train([replace(answers[0], prompt=(5,) * 120)], recipe=Recipe(steps=1))
    with pytest.raises(UsageError, match="beta above 0"):
        train(answers, objective=partial(kto_unpaired, beta=-1.0), recipe=Recipe(steps=1))
