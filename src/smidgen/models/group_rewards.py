"""Reward models of several groups in one folder, each with its scale: what `smidgen train maxmin` leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smidgen.data.templates import load_template
from smidgen.errors import SmidgenError
from smidgen.models.reward_model import RewardModel, as_reward, load_reward_model, save_reward_model
from smidgen.models.rewards import Reward, Scale, minimum, normalised
from smidgen.runs import read_json, write_json

INDEX = "groups.json"


def save_group_models(
    models: Sequence[RewardModel], scales: Sequence[Scale], folder: Path | str, *, template: str, card: str
) -> None:
    """Write models/0, models/1, … and, last, groups.json with their scales.

    Args:
        models: One a group.
        scales: Of each, over one calibration set.
        folder: Where they go.
        template: By which they read a conversation.
        card: Of every model.
    """
    rows = []
    for number, (rm, scale) in enumerate(zip(models, scales, strict=True)):
        name = f"models/{number}"
        save_reward_model(rm, Path(folder) / name, card=card)
        rows.append({"folder": name, "mean": scale.mean, "sd": scale.sd})
    write_json(Path(folder) / INDEX, {"template": template, "models": rows})


def load_group_rewards(folder: Path | str, *, dtype: str = "float32", device: str = "cpu") -> list[Reward]:
    """Every group's reward, with mean 0 and standard deviation 1 on the pairs it was trained with.

    Give them to `minimum` or `WorstGroup`, and the result to whatever takes a `Reward`.

    Raises:
        SmidgenError: No group rewards there.
    """
    folder = Path(folder)
    try:
        index: Any = read_json(folder / INDEX)
        template, rows = str(index["template"]), []
        for row in index["models"]:
            # The folders that `save` names and no other: an index from outside leads nowhere else.
            if row["folder"] != f"models/{len(rows)}":
                raise ValueError(f"folder {row['folder']!r} where models/{len(rows)} comes next")
            rows.append((row["folder"], float(row["mean"]), float(row["sd"])))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise SmidgenError(
            f"expected a folder of group rewards with {INDEX} at {str(folder)!r}; {error!r}. "
            "Give the --out of `smidgen train maxmin`."
        ) from error
    rewards: list[Reward] = []
    for name, mean, sd in rows:
        rm = load_reward_model(folder / name, device=device)
        reward = as_reward(rm, load_template(template, rm.lm.tokenizer), dtype=dtype)
        rewards.append(normalised(reward, Scale(mean, sd)))
    return rewards


def load_reward(name_or_path: str, *, template: str, device: str = "cpu") -> Reward:
    """Whatever scores answers there: a reward model, or of group rewards the minimum.

    Args:
        name_or_path: A reward model's folder or hub name, or the folder of `smidgen train maxmin`.
        template: By which a reward model reads a conversation; group rewards bring their own.
        device: Where the weights go.

    Raises:
        SmidgenError: Neither there.
    """
    if (Path(name_or_path) / INDEX).exists():
        return minimum(load_group_rewards(name_or_path, device=device))
    rm = load_reward_model(name_or_path, device=device)
    return as_reward(rm, load_template(template, rm.lm.tokenizer))
