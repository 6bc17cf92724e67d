"""Trackers that other programs show: each takes the rows of a training's log, and is imported only when asked for.

To add one, write a context manager that yields what to call with a row, and register it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from smidgen.errors import UsageError
from smidgen.settings import Registry
from smidgen.training.record import OnLog, Row

# Called with the run's folder and its settings.
Tracker = Callable[[Path, Mapping[str, Any]], AbstractContextManager[OnLog]]

tracker: Registry[Tracker] = Registry("tracker")

_PROJECT = "smidgen"


@tracker
@contextmanager
def tensorboard(folder: Path, settings: Mapping[str, Any]) -> Iterator[OnLog]:
    """Event files in `folder`/tensorboard, for `tensorboard --logdir`."""
    package = _needed("torch.utils.tensorboard", "tensorboard")
    # A training that goes on tells all rows again, which would stand there twice.
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    writer = package.SummaryWriter(folder / "tensorboard")
    writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))
    try:

        def on_log(row: Row) -> None:
            for name, value in _measured(row).items():
                writer.add_scalar(f"training/{name}", value, int(row["step"]))
            writer.flush()

        yield on_log
    finally:
        writer.close()


@tracker
@contextmanager
def wandb(folder: Path, settings: Mapping[str, Any]) -> Iterator[OnLog]:
    """A Weights & Biases run in `folder`/wandb, offline unless WANDB_MODE says otherwise; `wandb sync` sends it."""
    package = _needed("wandb", "wandb")
    folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    with package.init(project=_PROJECT, name=folder.name, dir=folder, mode=mode, config=dict(settings)) as run:
        yield lambda row: run.log(_measured(row), step=int(row["step"]))


@tracker
@contextmanager
def trackio(folder: Path, settings: Mapping[str, Any]) -> Iterator[OnLog]:
    """A run of trackio's local project, for `trackio show --project smidgen`."""
    package = _needed("trackio", "trackio")
    package.init(project=_PROJECT, name=folder.name, config=dict(settings))
    try:
        yield lambda row: package.log(_measured(row), step=int(row["step"]))
    finally:
        package.finish()


def _measured(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "step"}


def _needed(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"expected the package {package} for this tracker, got none ({error}). "
            f"Install it with `pip install 'smidgen[{package}]'`, or leave it out; metrics.jsonl has every row."
        ) from None
