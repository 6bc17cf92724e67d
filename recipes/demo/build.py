"""Make the embedded demo from nothing: the world of seed 0, and a tiny model that speaks its language.

Run from the repository's root: `python recipes/demo/build.py`. It writes src/smidgen/assets/demo/ and takes a few
minutes on one core. The model first reads everything as plain text, then learns to answer; what it was not taught
is to refuse by what is asked, which is what the preference pairs are for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from smidgen.assets import DEMO
from smidgen.assets.world import World, is_refusal, make_world
from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_pairs, encode_prompts
from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel, language_model, save_language_model
from smidgen.pairs import plain_pair
from smidgen.runs import write_text
from smidgen.training.loop import Recipe
from smidgen.training.sft import new_language_model, train_language_model, train_on_answers

READING = Recipe(learning_rate=3e-3, weight_decay=0.05, batch_size=16, epochs=4, schedule="cosine", warmup_steps=50)
ANSWERING = Recipe(learning_rate=1e-3, weight_decay=0.01, batch_size=32, epochs=2, schedule="cosine", warmup_steps=20)

CARD = """---
license: mit
pipeline_tag: text-generation
---
# The demo's supervised model

A GPT-2-architecture model (2 layers, 128 wide, 2,048-token byte-level BPE) trained from scratch by
`recipes/demo/build.py` on the made-up world that ships with Smidgen. It answers nearly everything, refuses by habit at
certain openings whether harm is meant or not, and knows nothing about the real world. For trying out preference
training only.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=DEMO)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: equal files on every run

    world = make_world(settings.seed)
    write_data(world, settings.out)
    lm = train_model(world, settings.seed)
    save_language_model(lm, settings.out / "model", card=CARD)
    print(refusal_rates(lm, world.harmful_dev, world.harmless_dev))


def write_data(world: World, folder: Path) -> None:
    """Pairs and prompts as a user would have them; `truth` stays in as a column that selectors never see."""
    write_text(folder / "pairs.jsonl", jsonl(world.pairs))
    write_text(folder / "heldout.jsonl", jsonl(world.heldout_pairs))
    prompts = {
        "harmful": world.harmful_dev,
        "harmless": world.harmless_dev,
        "confirm_harmful": world.harmful_confirm,
        "confirm_harmless": world.harmless_confirm,
    }
    for name, texts in prompts.items():
        write_text(folder / f"{name}.txt", "\n".join(texts) + "\n")


def jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def train_model(world: World, seed: int) -> LanguageModel:
    """A new tokenizer and model; language modelling on all text, then answers only."""
    template = load_template("plain")
    exchanges = [
        plain_pair(i, exchange["prompt"], exchange["response"], "") for i, exchange in enumerate(world.sft_exchanges)
    ]
    texts = [template.prompt(e.prompt) + template.response(e.chosen) for e in exchanges] + world.readings
    lm = new_language_model(texts, shape="nano", vocabulary=2048, positions=128, seed=seed)
    train_language_model(lm, texts, recipe=READING, seed=seed, on_log=show("reading"))

    encoded, _ = encode_pairs(exchanges, template, lm.tokenizer)
    prompts, answers = [e.prompt for e in encoded], [e.chosen for e in encoded]
    train_on_answers(lm, prompts, answers, recipe=ANSWERING, seed=seed, on_log=show("answering"))
    return language_model(lm.model, lm.tokenizer)  # again, for the fingerprint of the trained weights


def show(stage: str) -> Any:
    def row(values: dict[str, float]) -> None:
        if values["step"] % 100 == 0:
            print(f"{stage}: step {values['step']:.0f}, loss {values['loss']:.3f}", flush=True)

    return row


def refusal_rates(lm: LanguageModel, harmful: list[str], harmless: list[str]) -> str:
    """What came of it, with a few answers to look at."""
    template = load_template("plain")
    lines = []
    for name, prompts in (("harmful", harmful), ("harmless", harmless)):
        new_tokens = generate(lm, encode_prompts(prompts, template, lm.tokenizer), max_new_tokens=32)
        answers = [str(lm.tokenizer.decode(list(tokens))).strip() for tokens in new_tokens]
        share = sum(map(is_refusal, answers)) / len(answers)
        lines.append(f"{name}: {share:.3f} of {len(answers)} prompts refused")
        lines += [f"  {prompt} -> {answer}" for prompt, answer in zip(prompts[:3], answers, strict=False)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
