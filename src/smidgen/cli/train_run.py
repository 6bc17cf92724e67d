"""What every `smidgen train …` does around its training: claim the folder, show progress, write model and log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Protocol

from cyclopts import Parameter
from pydantic import NonNegativeInt

from smidgen.cli.flags import FLAT, RARE, flag_settings
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.progress import training_progress
from smidgen.data.checks import Quarantined
from smidgen.data.prepare import write_quarantine
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.runs import remove_folder, room_told, write_text
from smidgen.settings import settings_yaml
from smidgen.training.checkpoints import Keep
from smidgen.training.loop import Around, TrainingLog
from smidgen.training.processes import from_first, is_first, joined, launched_to_shard, own_device, world_size
from smidgen.training.record import OnLog, Row
from smidgen.training.trackers import tracker


class Run(Protocol):
    """Trains, calling `on_log` with every row of the log."""

    def __call__(self, *, on_log: OnLog) -> TrainingLog: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A training that is ready to start.

    Attributes:
        lm: Trained in place.
        n_examples: Pairs, answers or blocks of text, as `counted` says.
        n_tokens: Of all examples together.
        run: Does it.
        quarantine: Rows left out of the data.
        save: Writes the model into a folder, with its card's text; None for a plain causal model.
        counted: What the examples are, in words.
    """

    lm: LanguageModel
    n_examples: int
    n_tokens: int
    run: Run
    quarantine: Sequence[Quarantined] = field(default=())
    save: Callable[[Path, str], None] | None = None
    counted: str = "examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What a training keeps and tells, and how several processes share it; none of it changes the result.

    Attributes:
        checkpoint_every: Steps from one checkpoint to the next; 0 for by the clock, at most once a minute.
        keep_checkpoints: Keep the last checkpoints when all is done.
        track: Log there too: tensorboard, wandb (offline) or trackio; repeatable.
        shard: With several processes, divide the weights among them (FSDP2), as `accelerate launch --use_fsdp` does.
    """

    checkpoint_every: Annotated[NonNegativeInt, RARE, Parameter(metavar="STEPS")] = 0
    keep_checkpoints: Annotated[bool, RARE] = False
    track: Annotated[tuple[str, ...], RARE, Parameter(metavar="NAME")] = ()
    shard: Annotated[bool, RARE] = False

    def __post_init__(self) -> None:
        for name in self.track:
            tracker.get(name)

    def around(self, out: Path) -> Around:
        """What `train` takes for it, in a run's folder."""
        keep = Keep(folder=out / "checkpoints", every_steps=self.checkpoint_every or None)
        return {"keep": keep, "shard": self.shard or launched_to_shard()}


UpkeepFlags = Annotated[Upkeep, FLAT]
DEFAULT_UPKEEP = Upkeep()


def train_into(
    command: str, arguments: Mapping[str, Any], inputs: Sequence[str | Path], make: Callable[[], Job]
) -> Outcome:
    """Train and write model/, metrics.jsonl, quarantine.jsonl and, last, DONE; what is done is not done again.

    What was stopped goes on from its last checkpoint, if the job's training keeps any. Where a launcher has started
    several processes, all train and the first one writes.

    Args:
        arguments: Of the command; `upkeep` among them where it has those flags.
    """
    with joined():
        if not is_first():
            _take_part(make)
        if arguments["dry_run"]:
            with _others_wait():
                return _dry_run(arguments["recipe"], make(), arguments["out"])
        return _lead(command, arguments, inputs, make)


def _dry_run(recipe: Any, job: Job, out: Path) -> Outcome:
    """What the training takes from its first step on, and whether the folder holds some of it already."""
    plan: dict[str, Any] = {
        "examples": job.n_examples,
        "tokens": job.n_tokens,
        "steps": recipe.total_steps(job.n_examples),
    }
    text = f"{job.n_examples} {job.counted}, {job.n_tokens} tokens, {plan['steps']} steps; dry run: nothing written"
    plan["stored"] = "done" if (out / "DONE").exists() else "checkpoint" if (out / "checkpoints").is_dir() else None
    if plan["stored"]:
        text += f"; {out} holds {'all of it' if plan['stored'] == 'done' else 'a part of it, and would go on there'}"
    return Outcome(plan, text, _told_to_launcher(len(job.quarantine)))


def _take_part(make: Callable[[], Job]) -> None:
    """What a process other than the first does: it trains if the first says so, and leaves without a word."""
    if from_first(False):
        _placed(make()).run(on_log=lambda row: None)
    raise SystemExit(0)


@contextmanager
def _others_wait() -> Iterator[Callable[[], None]]:
    """Yield what lets the other processes train; they leave where it is not called."""
    told: list[bool] = []
    try:
        yield lambda: told.append(from_first(True))
    finally:
        if not told:
            from_first(False)


def _lead(command: str, arguments: Mapping[str, Any], inputs: Sequence[str | Path], make: Callable[[], Job]) -> Outcome:
    out, upkeep = arguments["out"], arguments.get("upkeep", DEFAULT_UPKEEP)
    scratch = ("metrics.jsonl", "reference.sqlite", *upkeep.track)
    with _others_wait() as others_train, claimed(out, command, arguments, inputs, scratch=scratch):
        if (out / "DONE").exists():
            return _outcome(out, "done before, nothing to do")
        others_train()
        job = _placed(make())
        with _told(out, arguments, job, upkeep) as on_log:
            log = job.run(on_log=on_log)
        write_quarantine(job.quarantine, out)
        card = _card(command, arguments, inputs, job)
        if job.save:
            job.save(out / "model", card)
        else:
            save_language_model(job.lm, out / "model", card=card)
        write_text(out / "DONE", "")
        if (out / "checkpoints").exists() and not upkeep.keep_checkpoints:
            remove_folder(out / "checkpoints")
        went_on = f", going on after step {log.resumed_at}" if log.resumed_at else ""
        return _outcome(out, f"trained on {job.n_examples} {job.counted}{went_on}")


def _placed(job: Job) -> Job:
    job.lm.model.to(own_device(job.lm.device))  # pyright: ignore[reportArgumentType]
    return job


@contextmanager
def _told(out: Path, arguments: Mapping[str, Any], job: Job, upkeep: Upkeep) -> Iterator[OnLog]:
    """Yield what tells of a row: the metrics file, which a training that goes on fills anew, progress, and trackers."""
    with ExitStack() as stack:
        path = out / "metrics.jsonl"
        with room_told(path):
            metrics = stack.enter_context(path.open("w", encoding="utf-8"))
        show = stack.enter_context(training_progress(arguments["recipe"].total_steps(job.n_examples)))
        settings = flag_settings(arguments)
        trackers = [stack.enter_context(tracker.get(name)(out, settings)) for name in upkeep.track]

        def on_log(row: Row) -> None:
            with room_told(path):
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
            for tell in (show, *trackers):
                tell(row)

        yield on_log


def _outcome(out: Path, what: str) -> Outcome:
    last = json.loads((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    n_quarantined = len((out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    lines = [f"{what}: step {last['step']}, loss {last['loss']:.4f}"]
    # A reward model's command has a line of its own, with intervals.
    if "heldout_loss" in last:
        accuracy = f", accuracy {last['heldout_accuracy']:.3f}" if "heldout_accuracy" in last else ""
        lines.append(f"held out: loss {last['heldout_loss']:.4f}{accuracy}")
    text = "\n".join([*lines, f"{n_quarantined} rows left out", f"model in {out}/model"])
    data = {**last, "quarantined": n_quarantined, "model": str(out / "model")}
    return Outcome(data, text, _told_to_launcher(n_quarantined))


def _told_to_launcher(n_quarantined: int) -> int:
    """None left out: a launcher takes any exit code but 0 for a crash of one of its processes."""
    return n_quarantined if world_size() == 1 else 0


def _card(command: str, arguments: Mapping[str, Any], inputs: Sequence[str | Path], job: Job) -> str:
    left_out = {"out", "dry_run", *(f.name for f in fields(Upkeep))}
    settings = settings_yaml({k: v for k, v in flag_settings(arguments).items() if k not in left_out})
    return (
        f"# A model trained with Smidgen\n\nMade by `smidgen {command}` on {job.n_examples} {job.counted} from "
        f"{', '.join(Path(name).name for name in inputs)}.\n\n```yaml\n{settings}```\n"
    )
