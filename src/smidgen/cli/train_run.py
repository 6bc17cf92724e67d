"""What every `smidgen train …` does around its training: claim the folder, show progress, write model and log."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from smidgen.cli.flags import flag_settings
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.progress import training_progress
from smidgen.data.checks import Quarantined
from smidgen.data.prepare import write_quarantine
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.runs import write_text
from smidgen.settings import settings_yaml
from smidgen.training.loop import TrainingLog

OnLog = Callable[[dict[str, float]], None]


class Run(Protocol):
    """Trains, calling `on_log` with every row of the log."""

    def __call__(self, *, on_log: OnLog) -> TrainingLog: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A training that is ready to start.

    Attributes:
        lm: Trained in place.
        n_examples: Pairs, answers or blocks of text.
        n_tokens: Of all examples together.
        run: Does it.
        quarantine: Rows left out of the data.
        save: Writes the model into a folder, with its card's text; None for a plain causal model.
    """

    lm: LanguageModel
    n_examples: int
    n_tokens: int
    run: Run
    quarantine: Sequence[Quarantined] = field(default=())
    save: Callable[[Path, str], None] | None = None


def train_into(
    command: str, arguments: Mapping[str, Any], inputs: Sequence[str | Path], make: Callable[[], Job]
) -> Outcome:
    """Train and write model/, metrics.jsonl, quarantine.jsonl and, last, DONE; what is done is not done again."""
    out, recipe = arguments["out"], arguments["recipe"]
    if arguments["dry_run"]:
        job = make()
        plan = {"examples": job.n_examples, "tokens": job.n_tokens, "steps": recipe.total_steps(job.n_examples)}
        text = "{examples} examples, {tokens} tokens, {steps} steps; dry run: nothing written".format_map(plan)
        return Outcome(plan, text, len(job.quarantine))
    with claimed(out, command, arguments, inputs, scratch=("metrics.jsonl", "reference.sqlite")):
        if (out / "DONE").exists():
            return _outcome(out, "done before, nothing to do")
        job = make()
        with (
            training_progress(recipe.total_steps(job.n_examples)) as show,
            (out / "metrics.jsonl").open("w", encoding="utf-8") as metrics,
        ):

            def on_log(row: dict[str, float]) -> None:
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
                show(row)

            job.run(on_log=on_log)
        write_quarantine(job.quarantine, out)
        card = _card(command, arguments, inputs, job)
        if job.save:
            job.save(out / "model", card)
        else:
            save_language_model(job.lm, out / "model", card=card)
        write_text(out / "DONE", "")
        return _outcome(out, f"trained on {job.n_examples} examples")


def _outcome(out: Path, what: str) -> Outcome:
    last = json.loads((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    n_quarantined = len((out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    text = f"{what}: step {last['step']}, loss {last['loss']:.4f}\n{n_quarantined} rows left out\nmodel in {out}/model"
    return Outcome({**last, "quarantined": n_quarantined, "model": str(out / "model")}, text, n_quarantined)


def _card(command: str, arguments: Mapping[str, Any], inputs: Sequence[str | Path], job: Job) -> str:
    settings = settings_yaml({k: v for k, v in flag_settings(arguments).items() if k not in ("out", "dry_run")})
    return (
        f"# A model trained with Smidgen\n\nMade by `smidgen {command}` on {job.n_examples} examples from "
        f"{', '.join(Path(name).name for name in inputs)}.\n\n```yaml\n{settings}```\n"
    )
