"""The ground that all objectives stand on, and what is measured of each of them."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from benchmarks.objectives.trainings import Material, Training

from smidgen.data.prepare import prepare_pairs
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import Template, load_template
from smidgen.data.tokens import EncodedPair, encode_prompts
from smidgen.evaluation.policy_change import answer_log_ratios, kl_samples, wins
from smidgen.evaluation.refusal import bench, outcomes
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.reward_model import RewardModel, as_reward, load_reward_model, new_reward_model, save_reward_model
from smidgen.models.rewards import Reward
from smidgen.pairs import PreferencePair, messages_from, random_key
from smidgen.runs import write_json
from smidgen.training.loop import Recipe
from smidgen.training.preference import reference_logps
from smidgen.training.reward import pair_rewards, reward_pairs, train_reward


@dataclass(frozen=True, slots=True)
class Ground:
    """What every objective starts from and is measured on.

    Attributes:
        lm: Trained again and again, from `base`.
        start: A second copy of the model, that stays as it is.
        completions: Its own, of the prompts, harmful ones first.
    """

    lm: LanguageModel
    start: LanguageModel
    material: Material
    heldout: Sequence[EncodedPair]
    harmful: list[str]
    harmless: list[str]
    completions: list[str]
    judge: Reward
    max_new_tokens: int


def prepared_ground(asked: Namespace, recipe: Recipe) -> Ground:
    """Load everything, train the reward model unless it is there, compute the reference's values."""
    lm, start = load_language_model(asked.model), load_language_model(asked.model)
    template = load_template("plain", lm.tokenizer)
    prepared = prepare_pairs(asked.pairs, tokenizer=lm.tokenizer, max_length=lm.max_positions)
    for_reward = {p.idx for p in prepared.pairs if random_key("reward", p.idx) / 2**64 < asked.reward_share}
    heldout = prepare_pairs(asked.heldout, tokenizer=lm.tokenizer, max_length=lm.max_positions)
    rm = reward_model(asked, [p for p in prepared.pairs if p.idx in for_reward], list(heldout.pairs), template, recipe)
    judge = as_reward(rm, template)
    for_policy = [p for p in prepared.pairs if p.idx not in for_reward]
    encoded = scored([p for p in prepared.encoded if p.idx not in for_reward], for_policy, judge)
    store = ReferenceStore(asked.out / "reference.sqlite")
    harmful, harmless = (with_room(lm, template, load_prompts(f), asked) for f in (asked.harmful, asked.harmless))
    rows = bench(start, template, harmful, harmless, max_new_tokens=asked.max_new_tokens)
    return Ground(
        lm=lm,
        start=start,
        material=Material(for_policy, encoded, reference_logps(lm, encoded, store), template, judge, recipe),
        heldout=heldout.encoded,
        harmful=harmful,
        harmless=harmless,
        completions=[row.completion or "" for row in rows],
        judge=judge,
        max_new_tokens=asked.max_new_tokens,
    )


def with_room(lm: LanguageModel, template: Template, prompts: list[str], asked: Namespace) -> list[str]:
    """The prompts whose answers fit policy and judge, which reads them as text again, perhaps in a few tokens more."""
    most = lm.max_positions - 2 * asked.max_new_tokens
    ids = encode_prompts(prompts, template, lm.tokenizer)
    return [prompt for prompt, tokens in zip(prompts, ids, strict=True) if len(tokens) <= most]


def reward_model(
    asked: Namespace, pairs: list[PreferencePair], heldout: list[PreferencePair], template: Template, recipe: Recipe
) -> RewardModel:
    """The judge, trained on pairs that no policy sees; its accuracy on held-out pairs goes to reward.json."""
    folder = asked.out / "reward_model"
    if folder.exists():
        return load_reward_model(folder)
    rm = new_reward_model(asked.model)
    encoded, _ = reward_pairs(rm, pairs, template)
    train_reward(rm, encoded, recipe=replace(recipe, steps=None, epochs=2), seed=0, centring=0.01)
    chosen, rejected = pair_rewards(rm, reward_pairs(rm, heldout, template)[0])
    accuracy = float(np.mean((chosen > rejected) + 0.5 * (chosen == rejected)))
    write_json(asked.out / "reward.json", {"pairs": len(pairs), "heldout": len(chosen), "heldout_accuracy": accuracy})
    save_reward_model(rm, folder, card="The judge of a table of objectives.\n")
    return rm


def scored(encoded: Sequence[EncodedPair], pairs: list[PreferencePair], judge: Reward) -> list[EncodedPair]:
    """The pairs with the judge's rewards as their external scores."""
    chosen, rejected = (
        judge([p.prompt for p in pairs], texts)
        for texts in ([p.chosen_text for p in pairs], [p.rejected_text for p in pairs])
    )
    return [
        replace(pair, chosen_score=float(better), rejected_score=float(worse))
        for pair, better, worse in zip(encoded, chosen, rejected, strict=True)
    ]


def measured(ground: Ground, name: str, training: Training | None, seed: int) -> dict[str, Any]:
    """Train from the start with one objective and measure; with None, the start itself."""
    ground.lm.model.load_state_dict(ground.start.model.state_dict())
    started = time.perf_counter()
    template = ground.material.template
    if training is not None:
        template = training(ground.lm, ground.material, seed) or template
    seconds = time.perf_counter() - started
    ground.lm.model.eval()
    prompts = [*ground.harmful, *ground.harmless]
    rows = bench(ground.lm, template, ground.harmful, ground.harmless, max_new_tokens=ground.max_new_tokens)
    harmful, harmless = outcomes(rows)
    messages = [messages_from(prompt, "user") for prompt in prompts]
    won = wins(ground.judge, messages, [row.completion or "" for row in rows], ground.completions)
    ids = encode_prompts(prompts, ground.material.template, ground.lm.tokenizer)
    kl = kl_samples(ground.lm, ground.start, ids, seed=seed, max_new_tokens=ground.max_new_tokens)
    chosen, rejected = answer_log_ratios(ground.lm, ground.start, ground.heldout)
    return {
        "objective": name,
        "seed": seed,
        "train_seconds": seconds,
        "refused_harmful": harmful.tolist(),
        "refused_harmless": harmless.tolist(),
        "won": won.tolist(),
        "kl": kl.tolist(),
        "chosen_log_ratio": chosen.tolist(),
        "rejected_log_ratio": rejected.tolist(),
    }
