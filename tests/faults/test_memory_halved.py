"""Where memory does not suffice for a part of a step, the step begins anew in halves, and the numbers stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.data.tokens import EncodedPair
from smidgen.errors import SmidgenError
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, find_layout
from smidgen.training.checkpoints import Keep
from smidgen.training.loop import LossTerms, Recipe, draw_batches, train
from smidgen.training.losses import loss
from smidgen.training.parts import Parts, in_memory, step_parts
from smidgen.training.preference import PairBatch, collate_pairs, preference_objective

RECIPE = Recipe(learning_rate=1e-3, steps=6, batch_size=8, dtype="float32", schedule="linear")
TOKENS = 11
PAIRS = [EncodedPair(i, (3 + i % 7, 4, 5, 6), (60 + i % 9, 61, 62, 0), (90 + i % 5, 91, 0)) for i in range(24)]


@dataclass(frozen=True)
class Sized:
    """A batch that is its size alone."""

    size: int
    weight: float = 1.0

    def __len__(self) -> int:
        return self.size


class Killed(Exception):
    """What stops a training here."""


def trained(
    lm: LanguageModel, start: dict[str, Tensor], recipe: Recipe, most_pairs: float, **around: Any
) -> tuple[dict[str, Tensor], list[int]]:
    """The weights after a training on a device that holds so many pairs at a time, and the sizes of parts asked for."""
    lm.model.load_state_dict(start)
    layout = find_layout(lm.model)
    bound = preference_objective(loss.bind("simpo"))
    sizes: list[int] = []

    def on_a_small_device(scorer: nn.Module, batch: PairBatch) -> LossTerms:
        sizes.append(len(batch))
        if len(batch) > most_pairs:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has none")
        return bound(scorer, batch)

    lengths = [TOKENS] * len(PAIRS)
    drawn = draw_batches([p.idx for p in PAIRS], lengths, batch_size=recipe.batch_size, steps=6, seed=0)

    def batches(begin: int) -> Iterator[Parts[PairBatch]]:
        for examples in drawn[begin:]:
            yield step_parts(
                examples, lengths, recipe, lambda part: collate_pairs([PAIRS[i] for i in part], None, layout=layout)
            )

    train(AnswerLogps(lm.model, layout), on_a_small_device, batches, recipe=recipe, steps=6, **around)
    return {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}, sizes


@pytest.fixture
def start(tiny: LanguageModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}


@pytest.mark.parametrize("most_pairs", [4, 2, 1])
def test_halved_is_as_if_begun_with_half(tiny: LanguageModel, start: dict[str, Tensor], most_pairs: int) -> None:
    half = replace(RECIPE, micro_batch_tokens=TOKENS * most_pairs)
    expected, sizes = trained(tiny, start, half, float("inf"))
    assert set(sizes) == {most_pairs}
    with pytest.warns(UserWarning) as said:
        found, sizes = trained(tiny, start, RECIPE, most_pairs)
    last = str(said[-1].message)
    assert "CUDA out of memory" in last and f"--micro-batch-tokens {TOKENS * most_pairs}" in last
    assert len(said) == {4: 1, 2: 2, 1: 3}[most_pairs]
    assert sizes[0] == 8 and set(sizes[-8 // most_pairs :]) == {most_pairs}
    # It is found out once, not at every step.
    assert sum(size > most_pairs for size in sizes) == {4: 1, 2: 2, 1: 3}[most_pairs]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    whole, _ = trained(tiny, start, RECIPE, float("inf"))
    assert all(torch.allclose(found[name], whole[name], atol=1e-5) for name in expected)
    assert any(not torch.equal(found[name], start[name]) for name in expected)


def test_a_training_that_goes_on_remembers_the_size(
    tiny: LanguageModel, start: dict[str, Tensor], tmp_path: Path
) -> None:
    keep = Keep(folder=tmp_path / "checkpoints", every_steps=1)

    def kill(optimizer: object, step: int) -> None:
        if step == 4:
            raise Killed

    with pytest.warns(UserWarning):
        expected, _ = trained(tiny, start, RECIPE, 3)
    with pytest.warns(UserWarning), pytest.raises(Killed):
        trained(tiny, start, RECIPE, 3, keep=keep, on_step=kill)
    # On a device with more room too, so that the numbers are those of one training.
    found, sizes = trained(tiny, start, RECIPE, float("inf"), keep=keep)
    assert set(sizes) == {2}
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_halving_never_joins_parts_that_are_small_for_one_long_example() -> None:
    """Half of the long one's tokens are more than the others' parts were allowed."""
    parts = Parts([[0], [1], [2]], [30, 6, 6], lambda examples: Sized(len(examples)))
    asked: list[int] = []

    def compute(parts: Any) -> None:
        for part in parts:
            asked.append(len(part))
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(SmidgenError, match="one example of 30 tokens"):
        in_memory(compute, parts, start_anew=lambda: None)
    assert asked == [1]


def test_what_was_halved_is_counted_halved_at_the_next_step(
    tiny: LanguageModel, start: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(
        "smidgen.training.loop.refuse_too_large_a_part",
        lambda model, parts, recipe, device: counted.append(parts.most_tokens()),
    )
    with pytest.warns(UserWarning):
        trained(tiny, start, RECIPE, 4)
    assert counted == [8 * TOKENS, *[4 * TOKENS] * 5]


def test_an_example_that_does_not_fit_alone_is_told(tiny: LanguageModel, start: dict[str, Tensor]) -> None:
    with (
        pytest.warns(UserWarning),
        pytest.raises(SmidgenError, match=r"memory for one example of 11 tokens, got too little: CUDA.*--max-length"),
    ):
        trained(tiny, start, RECIPE, 0)


def test_other_errors_are_not_taken_for_it(tiny: LanguageModel, start: dict[str, Tensor]) -> None:
    def broken(scorer: nn.Module, batch: PairBatch) -> LossTerms:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        train(tiny.model, broken, [[collate_pairs(PAIRS[:2], None, layout="separate")]], recipe=RECIPE, steps=1)
