"""A run's folder as one typed object: everything the report says is read here, and nowhere else.

Only the certificate is needed; a run without one of the other files has a shorter report.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data.links import refuse_links_and_pipes
from smidgen.data.tables import COLUMNS
from smidgen.errors import InvalidData, UsageError
from smidgen.report.certificate import Certificate, interval, read_certificate, read_object
from smidgen.runs import refuse_programs
from smidgen.selection.features import WORK, Features, read_features
from smidgen.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training run and what its benchmark measured.

    Attributes:
        budget: Number of pairs trained on.
        pairs: Those pairs, in a form that is equal for equal pairs; "" where the study did not store them.
        metrics: The numbers among its metrics; what was not measured is not there.
    """

    trial_id: str
    stage: str
    arm: str
    selector: str
    budget: int
    seed: int
    pairs: str
    prompt_set: str
    wall_seconds: float
    metrics: Mapping[str, float]

    @property
    def is_search(self) -> bool:
        """Whether this trial looks for a subset, rather than measuring an arm that has a name."""
        return self.arm == "search" and self.prompt_set == "dev"

    @property
    def series(self) -> str:
        """The selector, and whether its subset was refined."""
        return f"{self.selector}, refined" if self.stage == "refine" else self.selector


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote to one benchmark prompt, and whether the default pattern list takes it for a refusal."""

    harmful: bool
    prompt_index: int
    prompt: str
    completion: str
    refused: bool


@dataclass(frozen=True, slots=True)
class KeptPair:
    """A row of subset.csv or runners_up.csv; `extra` holds its columns beyond the four that every subset has."""

    idx: int
    prompt: str
    chosen: str
    rejected: str
    extra: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything a run left behind, as far as a reader wants to know it.

    Attributes:
        answers: By arm ("base", "subset", "full"), the completions to the confirm prompts of that arm's lowest seed.
        refused: By trial_id, for every search trial that wrote answers, whether it refused each harmful and each
            harmless dev prompt, in the order of the prompts.
    """

    identity: Mapping[str, Any]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    inputs: Mapping[str, Any]
    certificate: Certificate
    trials: tuple[Trial, ...]
    answers: Mapping[str, tuple[Answer, ...]]
    refused: Mapping[str, tuple[np.ndarray, np.ndarray]]
    kept: tuple[KeptPair, ...]
    runners_up: tuple[KeptPair, ...]
    features: Features | None


def read_run(folder: Path | str) -> Run:
    """Read a run's artefacts.

    Raises:
        UsageError: No certificate there: not a run, or one that has not ended; or a link that leads out of it.
        InvalidData: An artefact that cannot be read; says which, and what is wrong.
    """
    folder = Path(folder)
    refuse_links_and_pipes(folder, beside=(WORK,))
    if not (folder / "certificate.json").is_file():
        raise UsageError(
            f"expected a finished run at {folder}, found no certificate.json there. "
            "Give the folder of a run that has ended, or run the same `smidgen minimize` again to end it."
        )
    certificate = read_certificate(folder / "certificate.json")
    trials, answers, refused = _read_study(folder / "study.sqlite", certificate)
    features = folder / "features.parquet"
    return Run(
        identity=_optional_json(folder / "run.json"),
        settings=read_settings(folder / "settings.yaml") if (folder / "settings.yaml").is_file() else {},
        environment=_optional_json(folder / "environment.json"),
        inputs=_optional_json(folder / "inputs.json"),
        certificate=certificate,
        trials=trials,
        answers=answers,
        refused=refused,
        kept=read_kept(folder / "subset.csv"),
        runners_up=read_kept(folder / "runners_up.csv"),
        features=read_features(features, vectors=False) if features.is_file() else None,
    )


def confirm_trials(trials: Iterable[Trial], certificate: Certificate, arm: str) -> list[Trial]:
    """An arm's trials on the confirm prompts, by rising seed.

    "subset" was trained at every tested size: the size the certificate reports is meant, or the largest
    tested where it names none. "best" has no trials of its own where it is one of the tested sizes.
    """
    confirmed = [trial for trial in trials if trial.prompt_set == "confirm"]
    found = [trial for trial in confirmed if trial.arm == arm]
    if arm == "best" and not found:
        found = [trial for trial in confirmed if trial.arm == "subset" and trial.budget == certificate.best_size]
    if arm == "subset":
        size = certificate.subset_size or max((trial.budget for trial in found), default=0)
        found = [trial for trial in found if trial.budget == size]
    return sorted(found, key=lambda trial: (trial.seed, trial.trial_id))


def _read_study(
    path: Path, certificate: Certificate
) -> tuple[tuple[Trial, ...], dict[str, tuple[Answer, ...]], dict[str, tuple[np.ndarray, np.ndarray]]]:
    if not path.is_file():
        return (), {}, {}
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            refuse_programs(database, path)
            database.row_factory = sqlite3.Row
            trials = tuple(_trial(row) for row in database.execute("SELECT * FROM trials ORDER BY trial_id"))
            answers: dict[str, tuple[Answer, ...]] = {}
            for arm in ("base", "subset", "full"):
                if first := confirm_trials(trials, certificate, arm)[:1]:
                    answers[arm] = _read_answers(database, first[0].trial_id, certificate.patterns)
            refused = {
                trial.trial_id: _read_refused(database, trial.trial_id, certificate.patterns)
                for trial in trials
                if trial.is_search and "score" in trial.metrics
            }
            return trials, answers, refused
    except (sqlite3.Error, LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidData(f"{path}: expected a study's trials and scores, got {error}. Run the study again.") from error


def _trial(row: sqlite3.Row) -> Trial:
    metrics = {name: found.mean for name, value in json.loads(row["metrics"]).items() if (found := interval(value))}
    return Trial(
        trial_id=str(row["trial_id"]),
        stage=str(row["stage"]),
        arm=str(row["arm"]),
        selector=str(row["selector"] or ""),
        budget=int(row["budget"] or 0),
        seed=int(row["seed"] or 0),
        pairs=str(row["idxs"] or "") if "idxs" in row.keys() else "",  # noqa: SIM118 (a Row iterates over its values)
        prompt_set=str(row["prompt_set"]),
        wall_seconds=float(row["wall_seconds"] or 0),
        metrics=metrics,
    )


def _read_answers(database: sqlite3.Connection, trial_id: str, patterns: str) -> tuple[Answer, ...]:
    rows = database.execute(
        "SELECT harmful, prompt_index, prompt, completion, refused FROM scores "
        "WHERE trial_id = ? AND completion IS NOT NULL ORDER BY harmful DESC, prompt_index",
        (trial_id,),
    )
    return tuple(
        Answer(bool(harmful), int(index), str(prompt), str(completion), bool(json.loads(refused).get(patterns)))
        for harmful, index, prompt, completion, refused in rows
    )


def _read_refused(database: sqlite3.Connection, trial_id: str, patterns: str) -> tuple[np.ndarray, np.ndarray]:
    rows = database.execute(
        "SELECT harmful, refused FROM scores WHERE trial_id = ? AND completion IS NOT NULL ORDER BY prompt_index",
        (trial_id,),
    ).fetchall()
    refused = [(bool(harmful), bool(json.loads(found).get(patterns))) for harmful, found in rows]
    harmful, harmless = (np.array([value for side, value in refused if side is wanted]) for wanted in (True, False))
    return harmful, harmless


def read_kept(path: Path) -> tuple[KeptPair, ...]:
    """The rows of subset.csv or runners_up.csv, in their order; none where there is no such file.

    Raises:
        InvalidData: A row without one of the four columns that every such table has.
    """
    if not path.is_file():
        return ()
    # Answers may be longer than the csv module's default limit of 128 KiB a cell.
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return tuple(_kept(row) for row in csv.DictReader(file))
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            raise InvalidData(f"{path}: expected idx, prompt, chosen and rejected in every row; {error}.") from None


def _kept(row: dict[str, Any]) -> KeptPair:
    idx, prompt, chosen, rejected = (row.pop(name) for name in COLUMNS)
    if None in (idx, prompt, chosen, rejected, *row):
        raise ValueError(f"a row has fewer or more cells than the header, near idx {idx}")
    return KeptPair(int(idx), prompt, chosen, rejected, {name: value for name, value in row.items() if value})


def _optional_json(path: Path) -> Mapping[str, Any]:
    return read_object(path) if path.is_file() else {}
