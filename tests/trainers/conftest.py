"""Shared parts of the trainers' tests: a model on disk, and arguments that TRL and this project both take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.models.load import LanguageModel, save_language_model


@pytest.fixture
def folder(tiny: LanguageModel, tmp_path: Path) -> str:
    save_language_model(tiny, tmp_path / "tiny", card="tiny")
    return str(tmp_path / "tiny")


@pytest.fixture
def quiet(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes arguments for six steps on six rows, all in one batch, so that their order does not matter."""

    def make(**settings: Any) -> dict[str, Any]:
        common = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 3,
            "gradient_accumulation_steps": 2,
            "num_train_epochs": 6,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "linear",
            "max_grad_norm": 0.5,
            "bf16": False,
            "use_cpu": True,
            "report_to": "none",
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "gradient_checkpointing": False,
        }
        return common | settings

    return make
