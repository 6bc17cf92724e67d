"""A study small enough for tests: a tiny model, made-up pairs, a dozen prompts a class."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.assets.world import make_world
from smidgen.models.load import save_language_model
from smidgen.study.plan import StudySettings
from smidgen.training.loop import Recipe
from smidgen.training.sft import new_language_model, train_language_model

SETTINGS = StudySettings(
    loss="dpo:beta=0.3",
    recipe=Recipe(learning_rate=1e-3, steps=6, batch_size=4),
    selectors=("contrast", "random", "margin_band:band=high"),
    sizes=(24, 12),
    survivors=1,
    dev_seeds=1,
    swap_rounds=2,
    swap_steps=3,
    refine_groups=2,
    confirm_sizes=2,
    confirm_seeds=2,
    max_new_tokens=4,
    transfer=True,
    transfer_seeds=2,
)


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, Any]]:
    """Arguments of `minimize` for a study that takes seconds, given its folder."""
    folder = tmp_path_factory.mktemp("study")
    world = make_world(11, n_pairs=160)
    for name, rows in (("pairs", world.pairs), ("heldout", world.heldout_pairs[:24])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("harmful_dev", "harmless_dev", "harmful_confirm", "harmless_confirm"):
        prompts = getattr(world, name)[:12]
        (folder / f"{name}.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    texts = [f"user: {e['prompt']} assistant: {e['response']}" for e in world.sft_exchanges[:400]]
    lm = new_language_model(texts, shape="nano", vocabulary=600, positions=96)
    train_language_model(lm, texts, recipe=Recipe(learning_rate=2e-3, steps=30, batch_size=16), seed=0)
    save_language_model(lm, folder / "model", card="")

    def arguments(out: Path) -> dict[str, Any]:
        return {
            "out": out,
            "pairs": [str(folder / "pairs.jsonl")],
            "heldout": [str(folder / "heldout.jsonl")],
            "model": str(folder / "model"),
            "harmful": folder / "harmful_dev.txt",
            "harmless": folder / "harmless_dev.txt",
            "confirm_harmful": folder / "harmful_confirm.txt",
            "confirm_harmless": folder / "harmless_confirm.txt",
            "settings": SETTINGS,
            "workers": 0,
        }

    return arguments
