"""Checkpoints: whole or passed over, and a training that goes on from one ends as one that was never stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.errors import SmidgenError, UsageError
from smidgen.training.checkpoints import Keep, last_good
from smidgen.training.loop import Evaluation, LossTerms, Recipe, train
from smidgen.training.record import NotFinite

STEPS = 23
RECIPE = Recipe(learning_rate=0.02, schedule="cosine", warmup_steps=5, dtype="float32")
MEASURED = {"pairs_per_second", "tokens_per_second", "peak_memory_bytes"}


@dataclass(frozen=True, slots=True)
class Points:
    """Points of a curve to learn, one part of a step."""

    x: Tensor
    idx: Tensor
    weight: float

    def __len__(self) -> int:
        return len(self.x)


def points(start: int, bad: int | None = None) -> Iterator[list[Points]]:
    """Two parts a step, of three points and of one; those of step `bad` have no value."""
    for step in range(start, STEPS):
        x = torch.randn(4, 2, generator=torch.Generator().manual_seed(step))
        if step + 1 == bad:
            x = x * torch.inf
        idx = 10 * step + torch.arange(4)
        yield [Points(x[:3], idx[:3], 3), Points(x[3:], idx[3:], 1)]


def curve(model: nn.Module, part: Points) -> LossTerms:
    return LossTerms(((model(part.x) - part.x.sin().sum(-1, keepdim=True)) ** 2).mean(), 2 * len(part))


class Killed(Exception):
    """What stops a training in these tests."""


def run(
    folder: Path | None,
    *,
    kill_after: int | None = None,
    recipe: Recipe = RECIPE,
    keep: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[Tensor, list[dict[str, float]]]:
    """Train the same model on the same points; its weights, and the rows told, less what a clock or the system say."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    rows: list[dict[str, float]] = []

    def watch(optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == kill_after:
            raise Killed

    kept = None if folder is None else Keep(folder=folder, **{"every_steps": 4, **(keep or {})})
    settings: dict[str, Any] = {
        "recipe": recipe,
        "steps": STEPS,
        "on_log": rows.append,
        "on_step": watch,
        "keep": kept,
        "log_every": 5,
    }
    arguments: dict[str, Any] = {"objective": curve, "batches": points, **settings, **more}
    train(model, **arguments)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return weights, [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


def killed(folder: Path, step: int, **more: Any) -> None:
    with pytest.raises(Killed):
        run(folder, kill_after=step, **more)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("lazy", [points, lambda start: list(points(start))], ids=["generator", "list"])
def test_killed_and_resumed_is_never_killed(tmp_path: Path, dtype: Any, lazy: Callable[[int], Any]) -> None:
    recipe = replace(RECIPE, dtype=dtype)
    weights, rows = run(None, recipe=recipe)
    for step in (3, 9, 10, 17, 22):
        killed(tmp_path, step, recipe=recipe, batches=lazy)
    found, found_rows = run(tmp_path, recipe=recipe, batches=lazy)
    assert torch.equal(found, weights)
    assert found_rows == rows
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 23]


def test_batches_that_cannot_start_later_are_skipped(tmp_path: Path) -> None:
    weights, rows = run(None)
    killed(tmp_path, 14, batches=points(0))
    found, found_rows = run(tmp_path, batches=points(0))
    assert torch.equal(found, weights)
    assert found_rows == rows


def test_a_training_that_goes_on_makes_no_batch_twice(tmp_path: Path) -> None:
    starts: list[int] = []

    def noted(start: int) -> Iterator[list[Points]]:
        starts.append(start)
        return points(start)

    killed(tmp_path, 14, batches=noted)
    run(tmp_path, batches=noted)
    assert starts == [0, 12]


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    weights, rows = run(tmp_path, keep={"every_steps": 1})
    again, again_rows = run(
        tmp_path, keep={"every_steps": 1}, batches=lambda start: points(start) if start == STEPS else 1 / 0
    )
    assert torch.equal(again, weights)
    assert again_rows == rows


def spoil_by_truncating(checkpoint: Path) -> None:
    path = checkpoint / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def spoil_by_one_bit(checkpoint: Path) -> None:
    path = checkpoint / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def spoil_by_removing(checkpoint: Path) -> None:
    (checkpoint / "state.json").unlink()


def leave_one_empty_file(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()
    (checkpoint / "weights.safetensors").touch()


def empty_the_mark(checkpoint: Path) -> None:
    (checkpoint / "complete.json").write_text("")


def write_a_mark_that_lists_nothing(checkpoint: Path) -> None:
    (checkpoint / "complete.json").write_text("{}")


SPOILS = [
    spoil_by_truncating,
    spoil_by_one_bit,
    spoil_by_removing,
    leave_one_empty_file,
    empty_the_mark,
    write_a_mark_that_lists_nothing,
]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_a_checkpoint_that_is_not_whole_is_passed_over_by_name(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    weights, rows = run(None)
    killed(tmp_path, 14)
    assert last_good(tmp_path) == tmp_path / "step-12"
    spoil(tmp_path / "step-12")
    with pytest.warns(UserWarning, match=r"step-12 is passed over"):
        assert last_good(tmp_path) == tmp_path / "step-8"
    with pytest.warns(UserWarning, match=r"step-12 is passed over"):
        found, found_rows = run(tmp_path)
    assert torch.equal(found, weights)
    assert found_rows == rows
    assert last_good(tmp_path) == tmp_path / "step-20"


def test_without_a_whole_checkpoint_a_training_starts_anew(tmp_path: Path) -> None:
    weights, _ = run(None)
    killed(tmp_path, 10)
    for checkpoint in tmp_path.iterdir():
        leave_one_empty_file(checkpoint)
    with pytest.warns(UserWarning, match=r"step-\d is passed over.*complete.json is missing") as warned:
        assert torch.equal(run(tmp_path)[0], weights)
    assert len(warned) == 2
    assert last_good(tmp_path / "nowhere") is None


def test_what_is_no_checkpoint_is_left_alone_and_what_was_half_written_is_removed(tmp_path: Path) -> None:
    for name in ("step-old", "notes", ".step-8.half"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    run(tmp_path, keep={"most": 3})
    assert {path.name for path in tmp_path.iterdir()} == {"step-old", "notes", "step-12", "step-16", "step-20"}


def test_a_checkpoint_holds_no_code_and_a_mark_for_every_file(tmp_path: Path) -> None:
    killed(tmp_path, 5)
    checkpoint = tmp_path / "step-4"
    names = {path.name for path in checkpoint.iterdir()}
    assert names == {"weights.safetensors", "optimizer.safetensors", "state.json", "complete.json"}
    assert set(json.loads((checkpoint / "complete.json").read_text())) == names - {"complete.json"}


def test_checkpoints_wait_for_steps_where_there_may_be_one(tmp_path: Path) -> None:
    weights, _ = run(None)
    restricted = {"at": lambda step: step % 5 == 0, "most": 9}
    killed(tmp_path, 18, keep=restricted)
    assert {path.name for path in tmp_path.iterdir()} == {"step-5", "step-10", "step-15"}
    assert torch.equal(run(tmp_path, keep=restricted)[0], weights)


def test_by_the_clock_a_short_training_writes_none(tmp_path: Path) -> None:
    run(tmp_path / "none", keep={"every_steps": None})
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"recipe": replace(RECIPE, learning_rate=1.0)}, "other recipe"), ({"steps": 30}, "other steps")],
)
def test_another_training_does_not_go_on_from_it(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    killed(tmp_path, 9)
    with pytest.raises(UsageError, match=message):
        run(tmp_path, **change)


@pytest.mark.parametrize("wrong", [{"every_steps": 0}, {"most": 0}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="of at least 1, got 0"):
        Keep(folder=tmp_path, **wrong)


# Losses that are no numbers.


def test_a_loss_that_is_no_number_names_its_examples_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFinite) as caught:
        run(tmp_path, batches=lambda start: points(start, bad=11))
    assert "at step 11, on the examples with idx 100, 101, 102, 103." in str(caught.value)
    assert f"The last good checkpoint is {tmp_path / 'step-8'}." in str(caught.value)
    assert last_good(tmp_path) == tmp_path / "step-8"


def test_no_checkpoint_is_written_of_weights_that_are_no_numbers(tmp_path: Path) -> None:
    """The loss is looked at before a checkpoint, though no row is due."""
    with pytest.raises(NotFinite, match=r"step 3.*idx 20, 21, 22, 23.*no checkpoint from before"):
        run(tmp_path, batches=lambda start: points(start, bad=3))
    assert not list(tmp_path.iterdir())


def test_a_gradient_that_is_no_number_stops_even_the_last_step() -> None:
    def steep(model: nn.Module, part: Points) -> LossTerms:
        """Zero under a root: a finite loss without a finite slope."""
        return LossTerms((model(part.x) * 0).abs().sqrt().sum(), 1)

    with pytest.raises(SmidgenError, match=r"a finite gradient, got a norm of nan at step 1, .*idx 0, 1, 2, 3"):
        run(None, objective=steep, steps=1, batches=[next(points(0))])


# Evaluation.


def test_measurements_join_the_rows_of_their_steps_and_change_no_weight(tmp_path: Path) -> None:
    plain, plain_rows = run(None)

    def measure(model: nn.Module) -> dict[str, float]:
        assert not torch.is_grad_enabled()
        return {"size": float(sum(p.square().sum() for p in model.parameters()))}

    evaluation = Evaluation(measure=measure, every_steps=8)
    weights, rows = run(None, evaluation=evaluation)
    assert torch.equal(weights, plain)
    assert [row["step"] for row in rows] == [5, 8, 10, 15, 16, 20, 23]
    assert [row["step"] for row in rows if "size" in row] == [8, 16, 23]
    assert rows[-1]["size"] == pytest.approx(float(plain.square().sum()))
    assert rows[0] == plain_rows[0]
    killed(tmp_path, 18, evaluation=evaluation)
    assert run(tmp_path, evaluation=evaluation)[1] == rows


def test_measuring_every_zero_steps_is_refused() -> None:
    with pytest.raises(UsageError, match="every_steps of at least 1, got 0"):
        Evaluation(measure=lambda model: {}, every_steps=0)
