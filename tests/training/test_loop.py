"""The loop: batches come from (seed, idx) alone, schedules are what they say, gradients are clipped."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import SmidgenError, UsageError
from smidgen.training.loop import LossTerms, Recipe, draw_batches, train


@given(n=st.integers(1, 90), batch_size=st.integers(1, 9), seed=st.integers(0, 5), epochs=st.integers(1, 3))
def test_every_epoch_sees_every_example_once(n: int, batch_size: int, seed: int, epochs: int) -> None:
    windows = -(-n // (8 * batch_size))
    per_epoch = sum(-(-min(8 * batch_size, n - w * 8 * batch_size) // batch_size) for w in range(windows))
    batches = draw_batches(range(n), [1] * n, batch_size=batch_size, steps=per_epoch * epochs, seed=seed)
    assert Counter(i for batch in batches for i in batch) == dict.fromkeys(range(n), epochs)
    assert max(map(len, batches)) <= batch_size


@given(order=st.permutations(range(30)))
def test_row_order_never_matters(order: list[int]) -> None:
    idxs = [10 * i for i in range(30)]
    lengths = [i % 7 for i in range(30)]
    plain = draw_batches(idxs, lengths, batch_size=4, steps=9, seed=1)
    shuffled = draw_batches([idxs[i] for i in order], [lengths[i] for i in order], batch_size=4, steps=9, seed=1)
    assert [[idxs[order[i]] for i in batch] for batch in shuffled] == [[idxs[i] for i in batch] for batch in plain]


def test_other_seeds_other_orders_and_like_lengths_together() -> None:
    lengths = [i % 50 for i in range(400)]
    one, other = (draw_batches(range(400), lengths, batch_size=8, steps=50, seed=seed) for seed in (0, 1))
    assert one != other
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in one]
    assert sum(spread) / len(spread) < 12  # 44 for batches drawn without regard to length


def one_weight(start: float = 0.0) -> torch.nn.Linear:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, start)
    return model


class Part(list[int]):
    """Examples of a step, each counting once."""

    @property
    def weight(self) -> float:
        return len(self)


def pull(model: torch.nn.Module, batch: list[int]) -> LossTerms:
    """Loss whose gradient is 1 everywhere, so that a step of Adam is the learning rate."""
    (weight,) = model.parameters()
    return LossTerms(weight.sum(), len(batch))


@pytest.mark.parametrize(
    ("recipe", "scales"),
    [
        (Recipe(schedule="constant"), [1, 1, 1, 1]),
        (Recipe(schedule="linear"), [1, 0.75, 0.5, 0.25]),
        (Recipe(schedule="cosine"), [1, 0.853553, 0.5, 0.146447]),
        (Recipe(schedule="constant", warmup_steps=2), [0.5, 1, 1, 1]),
    ],
)
def test_schedules(recipe: Recipe, scales: list[float]) -> None:
    model, seen = one_weight(), [0.0]
    recipe = Recipe(
        schedule=recipe.schedule, warmup_steps=recipe.warmup_steps, learning_rate=0.1, weight_decay=0, max_grad_norm=9
    )

    def watch(row: dict[str, float]) -> None:
        seen.append(model.weight.item())

    train(model, pull, [[Part([0])]] * 4, recipe=recipe, steps=4, log_every=1, on_log=watch)
    moved = [before - after for before, after in pairwise(seen)]
    assert moved == pytest.approx([0.1 * scale for scale in scales], abs=1e-5)


def test_log_rows_hold_the_mean_loss_since_the_last_and_what_programs_rely_on() -> None:
    recipe = Recipe(learning_rate=0.1, weight_decay=0)
    log = train(one_weight(1.0), pull, [[Part([0, 1])]] * 4, recipe=recipe, steps=4, log_every=2)
    assert [row["step"] for row in log.rows] == [2, 4]
    assert [row["loss"] for row in log.rows] == pytest.approx([0.95, 0.75], abs=1e-4)
    for row in log.rows:
        assert row["pairs_per_second"] > 0
        assert row["tokens_per_second"] > 0
        assert row["peak_memory_bytes"] > 1e6


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    with pytest.raises(SmidgenError, match="Lower the learning rate"):
        train(one_weight(float("inf")), pull, [[Part([0])]], recipe=Recipe(), steps=1)


def test_total_steps() -> None:
    assert Recipe(epochs=2, batch_size=8).total_steps(100) == 25
    assert Recipe(epochs=2, batch_size=8).total_steps(1) == 1
    assert Recipe(steps=7).total_steps(10_000) == 7


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "expected batch_size above 0, got 0"),
        ({"learning_rate": -1e-5}, "expected learning_rate above 0"),
        ({"learning_rate": float("nan")}, "expected learning_rate above 0, got nan"),
        ({"micro_batch_tokens": 0}, "expected micro_batch_tokens above 0"),
        ({"lora_rank": -1}, "expected lora_rank of at least 0, got -1"),
        ({"lora_alpha": 16.0}, "expected a lora_rank with lora_alpha 16"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**wrong)  # pyright: ignore[reportArgumentType]
