"""`smidgen train reward`: a reward model from pairs, and how far it is to be believed on pairs it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval
from cyclopts import Parameter
from pydantic import NonNegativeFloat

from smidgen.cli.flags import FLAT, RARE, SETTINGS, DryRun, Heldout, Out, PairData, Seed
from smidgen.cli.outcome import Outcome
from smidgen.cli.train_run import DEFAULT_UPKEEP, Job, UpkeepFlags, train_into
from smidgen.data.checks import Quarantined
from smidgen.data.holdout import hold_out, unseen
from smidgen.data.prepare import prepare_pairs
from smidgen.data.templates import load_template
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.calibration import Calibration, calibration
from smidgen.models.reward_model import RewardModel, new_reward_model, save_reward_model
from smidgen.pairs import PreferencePair, Scalar
from smidgen.runs import write_json
from smidgen.training.loop import Around, Recipe, TrainingLog
from smidgen.training.record import OnLog
from smidgen.training.reward import RewardPair, pair_rewards, reward_pairs, train_reward

DEFAULT_RECIPE = Recipe()
_HELD_OUT_AT_MOST = 2000

RewardStart = Annotated[
    str,
    Parameter(metavar="MODEL", help="Where to start: a causal model, which gets a new head, or a reward model."),
]
HeldoutShare = Annotated[
    Annotated[float, Interval(ge=0, lt=1)],
    Parameter(metavar="SHARE", help="Of the pairs, by prompt, where no --heldout is given; 0 measures nothing."),
]
MarginScale = Annotated[
    NonNegativeFloat,
    Parameter(metavar="SCALE", help="Margin of one unit of chosen_score less rejected_score; 0 leaves scores alone."),
]
Centring = Annotated[NonNegativeFloat, Parameter(metavar="C", help="Pull of the rewards to a mean of 0, such as 0.01.")]
HeadStd = Annotated[
    NonNegativeFloat | None,
    RARE,
    Parameter(metavar="STD", help="Of a new head's weights; 0 starts all rewards at 0. Without: 1 / √(width + 1)."),
]


def reward(
    *,
    data: Annotated[PairData, FLAT],
    model: RewardStart,
    out: Out,
    heldout: Heldout = (),
    heldout_share: HeldoutShare = 0.1,
    margin_scale: MarginScale = 0.0,
    centring: Centring = 0.0,
    head_std: HeadStd = None,
    recipe: Annotated[Recipe, SETTINGS] = DEFAULT_RECIPE,
    upkeep: UpkeepFlags = DEFAULT_UPKEEP,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """Train a reward model on pairs, and measure it on held-out ones.

    Writes model/ (a sequence classifier with one label), metrics.jsonl, heldout.json and quarantine.jsonl. A column
    `weight` of the pairs, where there is one, says how often each counts.
    """
    arguments = dict(locals())
    if data.answer_head is not None:
        raise UsageError(
            f"expected no --answer-head, got {data.answer_head}: a reward is of a whole answer. Leave it out, and let "
            "--max-length leave out longer pairs."
        )

    def job() -> Job:
        rm = new_reward_model(model, seed=seed, head_std=head_std)
        task = read_reward_task(rm, data, heldout, heldout_share, margin_scale=margin_scale)
        measured: list[Calibration] = []

        def run(*, on_log: OnLog) -> TrainingLog:
            around: Around = {**upkeep.around(out), "on_log": on_log}
            log = train_reward(rm, task.pairs, recipe=recipe, seed=seed, centring=centring, **around)
            if task.heldout:
                measured.append(calibration(*pair_rewards(rm, task.heldout), [p.idx for p in task.heldout]))
                on_log({**log.rows[-1], **measured[0].numbers()})
            return log

        def save(folder: Path, card: str) -> None:
            for found in measured:
                write_json(out / "heldout.json", found.as_dict())
                card += f"\n{found.markdown()}"
            save_reward_model(rm, folder, card=card)

        n_tokens = sum(pair.n_tokens for pair in task.pairs)
        return Job(rm.lm, len(task.pairs), n_tokens, run, task.quarantine, save)

    done = train_into("train reward", arguments, [*data.pairs, *heldout, model], job)
    return Outcome(done.data, done.text + _heldout_line(done), done.n_quarantined)


@dataclass(frozen=True, slots=True)
class RewardTask:
    """What a reward model is trained on and measured on.

    Attributes:
        pairs: To train on.
        heldout: To measure on.
        meta: Further columns of the former, in their order.
        heldout_meta: The same of the latter.
        quarantine: Rows left out.
    """

    pairs: list[RewardPair]
    heldout: list[RewardPair]
    meta: list[Mapping[str, Scalar]]
    heldout_meta: list[Mapping[str, Scalar]]
    quarantine: list[Quarantined]


def read_reward_task(
    rm: RewardModel, data: PairData, heldout: tuple[str, ...], heldout_share: float, *, margin_scale: float = 0.0
) -> RewardTask:
    """Load pairs, set some aside and encode both; near-copies of training prompts are no held-out pairs.

    Raises:
        UsageError: A share out of range.
        InvalidData: Nothing left to train on or to measure on.
    """
    if not 0 <= heldout_share < 1:
        raise UsageError(f"expected --heldout-share from 0 to below 1, got {heldout_share}; 0.1 holds out a tenth.")
    template = load_template(data.template, rm.lm.tokenizer)
    prepared = data.prepared(None)
    if heldout:
        kept = list(prepared.pairs)
        other = prepare_pairs(list(heldout), max_bad_fraction=data.max_bad_fraction)
        candidates, left_out = list(other.pairs), [*prepared.quarantine, *other.quarantine]
    else:
        kept, candidates = hold_out(prepared.pairs, heldout_share, at_most=_HELD_OUT_AT_MOST)
        left_out = list(prepared.quarantine)
    pairs, bad = reward_pairs(rm, kept, template, margin_scale=margin_scale, max_length=data.max_length)
    measured, also_bad = reward_pairs(rm, unseen(candidates, kept), template, max_length=data.max_length)
    if not pairs or (not measured and (heldout or heldout_share)):
        what = "held-out pair whose prompt is not trained on" if pairs else "pair to train on"
        raise InvalidData(
            f"expected at least one {what}, got none of {len(prepared.pairs)} pairs and {len(bad) + len(also_bad)} "
            "left out for their length or tokens. Give more pairs, another --max-length or --heldout-share, or "
            "--heldout-share 0 to measure nothing."
        )
    return RewardTask(
        pairs, measured, _columns(pairs, kept), _columns(measured, candidates), [*left_out, *bad, *also_bad]
    )


def _columns(encoded: Sequence[RewardPair], pairs: Sequence[PreferencePair]) -> list[Mapping[str, Scalar]]:
    meta = {pair.idx: pair.meta for pair in pairs}
    return [meta[pair.idx] for pair in encoded]


def _heldout_line(done: Outcome) -> str:
    if "heldout_accuracy" not in done.data:
        return ""
    accuracy, low, high, n = (
        done.data[f"heldout_{name}"] for name in ("accuracy", "accuracy_low", "accuracy_high", "pairs")
    )
    error, chance = (done.data[f"heldout_calibration_{name}"] for name in ("error", "chance_error"))
    return (
        f"\nheld-out accuracy {accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}) on {n} pairs, "
        f"calibration error {error:.3f} ({chance:.3f} by chance)"
    )
