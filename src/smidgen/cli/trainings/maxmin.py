"""`smidgen train maxmin`: one reward model a group of users, found by hard EM or known, beside one for everybody."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from pydantic import PositiveInt

from smidgen.cli.flags import FLAT, RARE, SETTINGS, DryRun, Heldout, Out, PairData, Seed, flag_settings
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.progress import training_progress
from smidgen.cli.trainings.reward import Centring, HeadStd, HeldoutShare, RewardStart, RewardTask, read_reward_task
from smidgen.data.prepare import write_quarantine
from smidgen.data.tables import neutralise
from smidgen.errors import UsageError
from smidgen.evaluation.statistics import mean_difference, wilson
from smidgen.models.group_rewards import save_group_models
from smidgen.models.reward_model import RewardModel, new_reward_model, save_reward_model
from smidgen.models.rewards import fit_scale
from smidgen.runs import atomic_write, read_json, room_told, write_json, write_text
from smidgen.settings import settings_yaml
from smidgen.training.group_models import column_of, fitting
from smidgen.training.loop import Recipe, TrainingLog
from smidgen.training.maxmin import Parting, part_users, start_at_random, start_by_fit
from smidgen.training.reward import pair_rewards

DEFAULT_RECIPE = Recipe()


def maxmin(
    *,
    data: Annotated[PairData, FLAT],
    model: RewardStart,
    out: Out,
    user: Annotated[str | None, Parameter(metavar="COLUMN")] = None,
    group: Annotated[str | None, Parameter(metavar="COLUMN")] = None,
    n_models: Annotated[PositiveInt, Parameter(metavar="K")] = 2,
    rounds: Annotated[PositiveInt, RARE] = 10,
    starts: Annotated[PositiveInt, RARE] = 1,
    heldout: Heldout = (),
    heldout_share: HeldoutShare = 0.2,
    centring: Annotated[Centring, RARE] = 0.0,
    head_std: HeadStd = None,
    recipe: Annotated[Recipe, SETTINGS] = DEFAULT_RECIPE,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """Train one reward model a group of users, and one for all.

    Writes models/0, models/1, … with groups.json (their scales), single/, assignments.csv, accuracy.json,
    metrics.jsonl and quarantine.jsonl.

    Args:
        user: Column that says whose a pair is: users are parted among --n-models.
        group: Column of known groups; without --user, each has its model.
        n_models: How many models users are parted among.
        rounds: Most rounds of fitting and assigning.
        starts: Partings to try: first users whom one model explains badly apart, then at random; the likeliest counts.
    """
    arguments = dict(locals())
    if user is None and group is None:
        raise UsageError("expected --user or --group, got neither; name the column that says whose a pair is.")
    if data.answer_head is not None:
        raise UsageError(
            f"expected no --answer-head, got {data.answer_head}: a reward is of a whole answer. Leave it out."
        )
    start = partial(new_reward_model, model, seed=seed, head_std=head_std)
    if dry_run:
        return _plan(read_reward_task(start(), data, heldout, heldout_share), user or group or "", recipe)
    with claimed(out, "train maxmin", arguments, [*data.pairs, *heldout, model], scratch=("metrics.jsonl",)):
        if not (out / "DONE").exists():
            work = _Work(start, read_reward_task(start(), data, heldout, heldout_share), user, group, recipe)
            path = out / "metrics.jsonl"
            with room_told(path), path.open("w", encoding="utf-8", buffering=1) as metrics:
                single, parting = work.run(
                    n_groups=n_models, rounds=rounds, starts=starts, seed=seed, centring=centring, metrics=metrics.write
                )
            settings = {k: v for k, v in flag_settings(arguments).items() if k not in ("out", "dry_run")}
            work.write(out, single, parting, template=data.template, settings=settings_yaml(settings))
            write_text(out / "DONE", "")
    return _outcome(out)


@dataclass(slots=True)
class _Work:
    """One run: its data with whose it is, and how a model of it starts."""

    start: Callable[[], RewardModel]
    task: RewardTask
    user: str | None
    group: str | None
    recipe: Recipe

    def __post_init__(self) -> None:
        # Before any training, since the held-out pairs' columns are asked for after it.
        for column in filter(None, (self.user, self.group)):
            column_of(self.task.meta, self.task.pairs, column)
            column_of(self.task.heldout_meta, self.task.heldout, column)

    @property
    def names(self) -> list[str]:
        """Users, or known groups where there are none, sorted."""
        return sorted(set(self._owners()))

    def run(
        self, *, n_groups: int, rounds: int, starts: int, seed: int, centring: float, metrics: Callable[[str], Any]
    ) -> tuple[RewardModel, Parting[RewardModel]]:
        """One model for all, and one a group."""
        users, n_users = self._positions(self._owners()), len(self.names)
        with training_progress(self.recipe.total_steps(len(self.task.pairs))) as show:

            def on_fit(n_members: int, n_pairs: int, log: TrainingLog) -> None:
                metrics(json.dumps({"users": n_members, "pairs": n_pairs, **log.rows[-1]}) + "\n")
                show(log.rows[-1])

            fit, likelihoods = fitting(
                self.start, self.task.pairs, users, recipe=self.recipe, seed=seed, centring=centring, on_fit=on_fit
            )
            single = fit(range(n_users))
            if self.user is None:
                return single, part_users(fit, likelihoods, np.arange(n_users), n_groups=n_users, rounds=1)
            per_pair = likelihoods(single) / np.bincount(users, minlength=n_users)
            begin = [start_by_fit(per_pair, n_groups)]
            begin += [start_at_random(n_users, n_groups, f"{seed}/{i}") for i in range(1, starts)]
            found = [part_users(fit, likelihoods, first, n_groups=n_groups, rounds=rounds) for first in begin]
        return single, max(found, key=lambda parting: parting.log_likelihood)

    def write(
        self, out: Path, single: RewardModel, parting: Parting[RewardModel], *, template: str, settings: str
    ) -> None:
        """Models with their scales, who belongs to which, and how each group fares."""
        card = f"# A reward model trained with Smidgen\n\nMade by `smidgen train maxmin`.\n\n```yaml\n{settings}```\n"
        scales = [fit_scale(np.concatenate(pair_rewards(rm, self.task.pairs))) for rm in parting.models]
        known = self._known_groups()
        with atomic_write(out / "assignments.csv") as file:
            table = csv.writer(file, lineterminator="\n")
            numbers = range(len(parting.models))
            table.writerow(["user", "model", "pairs", *(f"log_likelihood_{k}" for k in numbers), "group"])
            n_pairs = Counter(self._owners())
            for i, name in enumerate(self.names):
                row = [name, int(parting.members[i]), n_pairs[name], *parting.log_likelihoods[i].round(4).tolist()]
                table.writerow([neutralise(cell) for cell in [*row, known.get(name, "")]])
        write_quarantine(self.task.quarantine, out)
        save_reward_model(single, out / "single", card=card)
        save_group_models(parting.models, scales, out, template=template, card=card)
        write_json(out / "accuracy.json", self._accuracies(single, parting))

    def _accuracies(self, single: RewardModel, parting: Parting[RewardModel]) -> dict[str, Any]:
        """Of every group, held-out accuracy of the one model and of the users' own, and their difference."""
        place = {name: i for i, name in enumerate(self.names)}
        column = self.user or self.group or ""
        owners = column_of(self.task.heldout_meta, self.task.heldout, column) if self.task.heldout else []
        seen = [i for i, owner in enumerate(owners) if owner in place]
        pairs = [self.task.heldout[i] for i in seen]
        own = np.array([parting.members[place[owners[i]]] for i in seen], dtype=np.int64)
        labels = np.array([str(k) for k in own])
        if self.group and pairs:
            labels = np.array(column_of([self.task.heldout_meta[i] for i in seen], pairs, self.group))
        right = [_right(rm, pairs) for rm in (single, *parting.models)] if pairs else [np.empty(0)]
        mine = np.array([right[1 + k][i] for i, k in enumerate(own)])
        rows = {}
        for label in sorted(set(labels.tolist())):
            one, many = right[0][labels == label], mine[labels == label]
            rows[label] = {
                "pairs": len(one),
                "single": wilson(float(one.sum()), len(one)).as_dict(),
                "own": wilson(float(many.sum()), len(many)).as_dict(),
                "difference": mean_difference(many, one).interval.as_dict() if len(one) > 1 else None,
            }
        known = self._known_groups()
        return {
            "groups": rows,
            "users": len(self.names),
            "users_by_model": np.bincount(parting.members, minlength=len(parting.models)).tolist(),
            "users_by_group": _users_by_group(parting, [known[name] for name in self.names]) if known else None,
            "log_likelihood": parting.history,
            "converged": parting.converged if self.user else None,
            "refilled": parting.n_refilled,
            "heldout_pairs_of_unknown_users": len(owners) - len(seen),
        }

    def _owners(self) -> list[str]:
        return column_of(self.task.meta, self.task.pairs, self.user or self.group or "")

    def _positions(self, owners: list[str]) -> np.ndarray:
        place = {name: i for i, name in enumerate(self.names)}
        return np.array([place[owner] for owner in owners])

    def _known_groups(self) -> dict[str, str]:
        """Each user's group as the data tells it, where it does."""
        if self.user is None or self.group is None:
            return {}
        return dict(zip(self._owners(), column_of(self.task.meta, self.task.pairs, self.group), strict=True))


def _right(rm: RewardModel, pairs: list[Any]) -> np.ndarray:
    """1 where the chosen answer has the higher reward, 0 where the rejected one has, .5 where neither."""
    chosen, rejected = pair_rewards(rm, pairs)
    return (np.sign(chosen - rejected) + 1) / 2


def _users_by_group(parting: Parting[RewardModel], known: list[str]) -> dict[str, list[int]]:
    """How many users of each known group are with each model."""
    n_models = len(parting.models)
    return {
        group: np.bincount(parting.members[np.array(known) == group], minlength=n_models).tolist()
        for group in sorted(set(known))
    }


def _plan(task: RewardTask, column: str, recipe: Recipe) -> Outcome:
    n_users = len(set(column_of(task.meta, task.pairs, column)))
    plan = {"examples": len(task.pairs), "users": n_users, "steps": recipe.total_steps(len(task.pairs))}
    text = "{examples} pairs of {users} users or groups, {steps} steps a round; dry run: nothing written"
    return Outcome(plan, text.format_map(plan), len(task.quarantine))


def _outcome(out: Path) -> Outcome:
    found = read_json(out / "accuracy.json")
    n_quarantined = len((out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    lines = [f"{found['users']} users or groups; by model: {', '.join(map(str, found['users_by_model']))}"]
    for name, counts in (found["users_by_group"] or {}).items():
        lines.append(f"  {name}: {', '.join(map(str, counts))}")
    for name, row in found["groups"].items():
        one, own = (f"{row[k]['mean']:.3f} ({row[k]['low']:.3f} to {row[k]['high']:.3f})" for k in ("single", "own"))
        lines.append(f"  {name}: accuracy on {row['pairs']} held-out pairs {one} with one model, {own} with its own")
    lines += [f"{n_quarantined} rows left out", f"reward models in {out}/models, one for all in {out}/single"]
    return Outcome({**found, "quarantined": n_quarantined}, "\n".join(lines), n_quarantined)
