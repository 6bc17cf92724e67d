"""`smidgen train ppo`: a policy that is rewarded for what it answers, held close to the model it starts as."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import ExistingFile
from torch import Tensor, nn

from smidgen.cli.flags import SETTINGS, DryRun, Model, Out, Seed, TemplateName
from smidgen.cli.outcome import Outcome
from smidgen.cli.train_run import DEFAULT_UPKEEP, Job, UpkeepFlags, train_into
from smidgen.data.checks import Quarantined
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_prompts
from smidgen.errors import UsageError
from smidgen.evaluation.reward_rules import load_rule, reward_rule
from smidgen.models.group_rewards import INDEX, load_group_rewards
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.models.reward_model import as_reward, load_reward_model
from smidgen.models.rewards import Reward, minimum
from smidgen.pairs import messages_from
from smidgen.report.ppo_figure import ppo_png
from smidgen.runs import atomic_write
from smidgen.settings import parse_spec
from smidgen.training.loop import Around, Recipe, TrainingLog
from smidgen.training.ppo import train_ppo
from smidgen.training.ppo_settings import PPOSettings
from smidgen.training.processes import is_first, own_device
from smidgen.training.record import OnLog
from smidgen.training.rollouts import Prompt, Rollout

DEFAULT_RECIPE = Recipe()
DEFAULT_PPO = PPOSettings()

Prompts = Annotated[
    tuple[ExistingFile, ...],
    Parameter(
        metavar="FILE",
        help="Prompts to answer; repeatable. One a line, a JSON list, or JSONL or CSV with a prompt column.",
    ),
]
RewardName = Annotated[
    str,
    Parameter(
        metavar="REWARD",
        help="A reward model, the folder of `train maxmin`, or a rule such as refusal:harmful=FILE. "
        "Of group rewards, that of the least happy group counts. "
        f"Rules: {', '.join(reward_rule.names())}.",
    ),
]


def ppo(
    *,
    prompts: Prompts,
    model: Model,
    reward: RewardName,
    out: Out,
    template: TemplateName = "plain",
    ppo: Annotated[PPOSettings, SETTINGS] = DEFAULT_PPO,
    recipe: Annotated[Recipe, SETTINGS] = DEFAULT_RECIPE,
    upkeep: UpkeepFlags = DEFAULT_UPKEEP,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """Train on rewards of sampled answers (PPO), held close to the start.

    Writes model/, metrics.jsonl with reward and KL of every rollout, kl.png with both drawn, and answers/ with every
    sampled answer: read some, since what is rewarded is not always what is meant.
    """
    arguments = dict(locals())
    ppo.steps_per_rollout(recipe)  # refuses a batch that is larger than a rollout

    def job() -> Job:
        scores, value_head = load_reward(reward, template)
        lm = load_language_model(model)
        asked, quarantine = read_prompts(lm, prompts, template, ppo.max_new_tokens)

        def run(*, on_log: OnLog) -> TrainingLog:
            # What the template writes before any answer.
            lead = load_template(template, lm.tokenizer).response(messages_from("a", "assistant")).partition("a")[0]
            around: Around = {**upkeep.around(out), "on_log": on_log}
            keep = partial(write_answers, out / "answers") if is_first() else None
            log = train_ppo(
                lm, asked, scores,
                settings=ppo, recipe=recipe, seed=seed,
                value_head=value_head, lead=lead, on_rollout=keep, **around,
            )  # fmt: skip
            if is_first():
                ppo_png(log.rows, out / "kl.png", kl_target=ppo.kl_target)
            return log

        n_tokens = sum(len(p.tokens) for p in asked)
        return Job(lm, ppo.examples(len(asked)), n_tokens, run, quarantine, counted="answers (counted once a pass)")

    inputs = [*prompts, model, *([reward] if Path(reward).exists() else [])]
    done = train_into("train ppo", arguments, inputs, job)
    return Outcome(done.data, done.text + _last_rollout(done.data), done.n_quarantined)


def load_reward(reward: str, template: str) -> tuple[Reward, Tensor | None]:
    """A rule, the minimum of group rewards, or a reward model; and where a value head may start, if that says so.

    Raises:
        UsageError: A setting that the rule does not take.
        SmidgenError: Neither a rule nor a reward model.
    """
    if parse_spec(reward)[0] in reward_rule.names():
        return load_rule(reward), None
    if not Path(reward).exists() and "/" not in reward:
        raise UsageError(
            f"expected a reward model or a rule, got {reward!r}, which is no folder here; give a folder, a hub name "
            f"such as owner/model, or one of: {', '.join(reward_rule.names())}."
        )
    if (Path(reward) / INDEX).exists():
        return minimum(load_group_rewards(reward)), None
    # The folder of `train reward` itself, and not of the model in it.
    whole_run = (Path(reward) / "DONE").exists() and (Path(reward) / "model").exists()
    rm = load_reward_model(Path(reward) / "model" if whole_run else reward)
    rm.lm.model.to(own_device(rm.lm.device))  # pyright: ignore[reportArgumentType]
    # Whatever the architecture calls its head, it is the layer that gives the one number.
    heads = [m for m in rm.lm.model.modules() if isinstance(m, nn.Linear) and m.out_features == 1]
    return as_reward(rm, load_template(template, rm.lm.tokenizer)), heads[-1].weight[0].detach() if heads else None


def read_prompts(
    lm: LanguageModel, files: Sequence[Path], template: str, max_new_tokens: int
) -> tuple[list[Prompt], list[Quarantined]]:
    """The prompts of all files that leave so many of the model's positions to answer in, and those that do not.

    Raises:
        UsageError: No position would be left for any prompt.
    """
    most = lm.max_positions - max_new_tokens
    if most < 1:
        raise UsageError(
            f"expected --max-new-tokens below the model's {lm.max_positions} positions, got {max_new_tokens}; "
            "prompt and answer share them."
        )
    found: list[Prompt] = []
    left_out: list[Quarantined] = []
    for file in files:
        texts = load_prompts(file)
        for number, (text, ids) in enumerate(
            zip(texts, encode_prompts(texts, load_template(template, lm.tokenizer), lm.tokenizer), strict=True), start=1
        ):
            if len(ids) > most:
                detail = f"prompt {number} has {len(ids)} tokens, above {most} with {max_new_tokens} to answer in"
                left_out.append(Quarantined(str(file), number, None, "over_long", detail))
            else:
                found.append(Prompt(messages_from(text, "user"), ids))
    return found, left_out


def write_answers(folder: Path, number: int, rollout: Rollout) -> None:
    """A file a rollout, with one line an answer: prompt, answer, reward, and whether it ended in time."""
    with atomic_write(folder / f"rollout-{number:04d}.jsonl") as file:
        columns = (rollout.prompts, rollout.texts, rollout.scores.tolist(), rollout.ended.tolist())
        for prompt, text, score, ended in zip(*columns, strict=True):
            row = {"prompt": prompt.messages[-1].content, "answer": text, "reward": score, "ended": ended}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _last_rollout(data: Any) -> str:
    if "reward" not in data:
        return ""
    return (
        f"\nlast rollout: reward {data['reward']:.3f} (standard error {data['reward_standard_error']:.3f}), "
        f"KL {data['kl']:.2f} nats an answer, drawn in kl.png"
    )
