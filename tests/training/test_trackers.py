"""Trackers: what is installed gets the rows, what is not says how to install it."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from smidgen.errors import UsageError
from smidgen.training.trackers import tracker

ROWS = [{"step": 10.0, "loss": 0.6}, {"step": 20.0, "loss": 0.5, "heldout_loss": 0.7}]
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize("name", tracker.names())
def test_rows_arrive_or_the_message_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "run" / "trackio"))
    if not find_spec(name):
        with pytest.raises(
            UsageError, match=rf"expected the package {name}.*got none.*pip install 'smidgen\[{name}\]'"
        ):
            tracker.get(name)(tmp_path, {}).__enter__()
        return
    with tracker.get(name)(tmp_path / "run", {"seed": 0}) as tell:
        for row in ROWS:
            tell(row)
    assert any(path.is_file() and path.stat().st_size for path in (tmp_path / "run" / name).rglob("*"))


def test_every_tracker_has_an_extra() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    assert {name: extras[name] for name in tracker.names()} == {name: [name] for name in tracker.names()}


def test_tensorboard_holds_the_rows_once_though_they_are_told_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )

    for told in (ROWS[:1], ROWS):
        with tracker.get("tensorboard")(tmp_path, {"seed": 0}) as tell:
            for row in told:
                tell(row)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 6)) for e in events.Scalars("training/loss")] == [(10, 0.6), (20, 0.5)]
    assert [e.step for e in events.Scalars("training/heldout_loss")] == [20]


def test_an_unknown_tracker_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown tracker 'mlflow'; expected one of: tensorboard, trackio, wandb"):
        tracker.get("mlflow")
