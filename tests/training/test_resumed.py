"""Every kind of training goes on from a checkpoint and ends as one that was never stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.data.answers import EncodedAnswer
from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.reward_model import new_reward_model
from smidgen.training.checkpoints import Keep
from smidgen.training.hindsight import HindsightRow, train_hindsight
from smidgen.training.loop import Recipe
from smidgen.training.preference import train_preference
from smidgen.training.reward import RewardPair, train_reward
from smidgen.training.sft import train_on_answers
from smidgen.training.unpaired import train_unpaired

RECIPE = Recipe(learning_rate=1e-3, steps=7, batch_size=4, schedule="linear", warmup_steps=2, dtype="float32")
PAIRS = [EncodedPair(i, (3 + i % 7, 4, 5), (60 + i % 9, 61, 0), (90 + i % 5, 0), weight=1.0 + i % 2) for i in range(9)]


class Killed(Exception):
    """What stops a training here."""


def kill_at(step: int) -> Callable[[Any, int], None]:
    def watch(optimizer: Any, done: int) -> None:
        if done == step:
            raise Killed

    return watch


def sft(lm: LanguageModel, folder: Path, **around: Any) -> None:
    train_on_answers(lm, [p.prompt for p in PAIRS], [p.chosen for p in PAIRS], recipe=RECIPE, seed=3, **around)


def preference(lm: LanguageModel, folder: Path, **around: Any) -> None:
    train_preference(lm, PAIRS, None, objective="simpo", recipe=RECIPE, seed=3, **around)


def adapter(lm: LanguageModel, folder: Path, **around: Any) -> None:
    train_preference(lm, PAIRS, None, objective="orpo", recipe=replace(RECIPE, lora_rank=2), seed=3, **around)


def hindsight(lm: LanguageModel, folder: Path, **around: Any) -> None:
    rows = [HindsightRow(p.idx, "good", p.prompt, p.chosen, (True,) * len(p.chosen)) for p in PAIRS]
    train_hindsight(lm, rows, mask_share=0.3, recipe=RECIPE, seed=3, **around)


def unpaired(lm: LanguageModel, folder: Path, **around: Any) -> None:
    answers = [EncodedAnswer(p.idx, p.prompt, p.chosen, desirable=p.idx % 2 == 0) for p in PAIRS]
    train_unpaired(lm, answers, ReferenceStore(folder / "reference.sqlite"), recipe=RECIPE, seed=3, **around)


def reward(lm: LanguageModel, folder: Path, **around: Any) -> None:
    rm = new_reward_model(folder / "start")
    pairs = [RewardPair(idx=p.idx, chosen=p.prompt + p.chosen, rejected=p.prompt + p.rejected) for p in PAIRS]
    train_reward(rm, pairs, recipe=RECIPE, seed=3, **around)
    # Its own model is trained, so its weights are laid where the test looks.
    lm.model.base_model.load_state_dict(rm.lm.model.base_model.state_dict())


@pytest.mark.parametrize("training", [sft, preference, adapter, hindsight, unpaired, reward])
def test_stopped_and_called_again_is_never_stopped(
    tiny: LanguageModel, tmp_path: Path, training: Callable[..., None]
) -> None:
    start = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    tiny.model.save_pretrained(tmp_path / "start")
    tiny.tokenizer.save_pretrained(tmp_path / "start")

    def trained(**around: Any) -> dict[str, torch.Tensor]:
        tiny.model.load_state_dict(start)
        training(tiny, tmp_path, **around)
        return {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}

    whole = trained()
    keep = Keep(folder=tmp_path / "checkpoints", every_steps=2)
    with pytest.raises(Killed):
        trained(keep=keep, on_step=kill_at(5))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    seen: list[int] = []
    resumed = trained(keep=keep, on_step=lambda optimizer, step: seen.append(step))
    assert seen == [5, 6, 7]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(not torch.equal(whole[name], start[name]) for name in whole)
