"""A small world for whole commands: pairs, prompts, a model, settings of a study that takes seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.assets.world import make_world
from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.completions_files import write_completions_jsonl
from smidgen.models.load import save_language_model
from smidgen.settings import plain_settings, settings_yaml
from smidgen.study.plan import StudySettings
from smidgen.training.loop import Recipe
from smidgen.training.sft import new_language_model, train_language_model

SETTINGS = StudySettings(
    loss="dpo:beta=0.3",
    recipe=Recipe(learning_rate=1e-3, steps=4, batch_size=4, dtype="float32"),
    selectors=("contrast", "random"),
    sizes=(12,),
    survivors=1,
    dev_seeds=1,
    swap_rounds=1,
    swap_steps=2,
    refine_groups=2,
    refine_trials=2,
    confirm_sizes=1,
    confirm_seeds=2,
    both_budgets=False,
    max_new_tokens=3,
)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a user has."""
    folder = tmp_path_factory.mktemp("world")
    made = make_world(11, n_pairs=120)
    for name, rows in (("pairs", made.pairs), ("heldout", made.heldout_pairs[:12])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, side in (("a", "chosen"), ("b", "rejected")):
        answers = tuple(Completed(pair["prompt"], (pair[side],)) for pair in made.pairs[:12])
        write_completions_jsonl(folder / f"{name}.jsonl", Completions(model=name, rows=answers))
    for name in ("harmful_dev", "harmless_dev", "harmful_confirm", "harmless_confirm"):
        (folder / f"{name}.txt").write_text("\n".join(getattr(made, name)[:10]) + "\n", encoding="utf-8")
    texts = [f"user: {e['prompt']} assistant: {e['response']}" for e in made.sft_exchanges[:300]]
    lm = new_language_model(texts, shape="tiny", vocabulary=500, positions=96)
    train_language_model(lm, texts, recipe=replace(SETTINGS.recipe, steps=20, batch_size=16), seed=0)
    save_language_model(lm, folder / "model", card="")
    (folder / "study.yaml").write_text(settings_yaml(plain_settings(SETTINGS)), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def commands(world: Path) -> dict[str, list[str]]:
    """One call of each stage, as on the command line; {out} stands for the folder to write to."""
    pairs, model = ["--pairs", f"{world}/pairs.jsonl"], ["--model", f"{world}/model"]
    dev = ["--harmful", f"{world}/harmful_dev.txt", "--harmless", f"{world}/harmless_dev.txt"]
    confirm = [f"--confirm-harmful={world}/harmful_confirm.txt", f"--confirm-harmless={world}/harmless_confirm.txt"]
    out = ["--out", "{out}/run"]
    return {
        "prepare": ["prepare", *pairs, *model, *dev, *out],
        "select": [
            "select",
            *pairs,
            *model,
            *dev,
            *out,
            "--budget=5",
            "--selector=margin_band:band=high",
            "--train-aligned=0.3",
        ],
        "train": ["train", "dpo", *pairs, *model, *out, "--steps", "12", "--batch-size=4", "--checkpoint-every=1"],
        "minimize": [
            *("minimize", "--config", f"{world}/study.yaml", *pairs, "--heldout", f"{world}/heldout.jsonl"),
            *(*model, *dev, *confirm, *out, "--workers", "0"),
        ],
        "critique": [
            *("critique", "--task", "safety", "--prompts", f"{world}/harmful_dev.txt", "--out", "{out}/run.jsonl"),
            *("--teacher", "{teacher}", "--model", "scripted", "--concurrency", "3"),
        ],
        "score": [
            *("score", "--pairs", f"{world}/heldout.jsonl", "--out", "{out}/run.jsonl", "--task", "safety"),
            *("--judge", "{teacher}", "--model", "scripted"),
        ],
        "generate": [
            *("generate", *model, "--prompts", f"{world}/harmful_dev.txt", *out),
            *("--completions=2", "--max-new-tokens=3", "--batch-size=4"),
        ],
        "compare": ["compare", f"{world}/a.jsonl", f"{world}/b.jsonl", "--judge", "longer", "--judge", "refusal", *out],
        "export": ["export", f"{world}/pairs.jsonl", "--format", "trl", *out],
        "explain": ["explain", "ratings", "--group", "1,1,2", "--group", "2,1,2", *out],
        "bench": ["bench", *model, *dev, "--max-new-tokens=24", "--completions", "{out}/run.jsonl"],
    }
