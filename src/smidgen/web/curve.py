"""A study's points, each with the trials behind it: what it was trained on, and what its models wrote."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from smidgen.errors import InvalidData
from smidgen.evaluation.statistics import Interval
from smidgen.report.artefacts import Run, Trial, confirm_trials, read_run
from smidgen.report.frontier import ARM_NAMES, frontier
from smidgen.report.frontier_marks import comparators, selector_of, selector_roles
from smidgen.report.spots import Drawn, Spot, drawn_frontier
from smidgen.report.verdict import verdict
from smidgen.runs import refuse_programs

# Markers of the drawing as characters.
_GLYPHS = {"o": "●", "v": "▼", "^": "▲", "s": "■", "D": "◆", "P": "✚"}


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve.

    Attributes:
        group: `search`, `tested` or `arm`, as the drawing's spots have it.
        name: Its name within the group.
        title: What it is, for people.
        size: Pairs trained on.
        verdict: What its test came to; "" where it was not tested.
        glyph: Its marker in the drawing, as a character.
        role: Its colour role there.
        trials: By seed; the first one's id is the point's own.
    """

    group: str
    name: str
    title: str
    size: int
    score: Interval
    verdict: str
    glyph: str
    role: str
    trials: tuple[Trial, ...]

    @property
    def key(self) -> str:
        return self.trials[0].trial_id


@dataclass(frozen=True, slots=True)
class Written:
    """A benchmark prompt and what models wrote: by model, the text and whether it was taken for a refusal."""

    harmful: bool
    prompt: str
    answers: Mapping[str, tuple[str, bool]]

    @property
    def differ(self) -> bool:
        return len({refused for _, refused in self.answers.values()}) > 1


class Curve:
    """A finished study, for its page.

    Raises:
        UsageError: No finished study there.
        InvalidData: An artefact that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "study.sqlite"
        self.run = read_run(folder)
        self.found = frontier(self.run)
        self.verdict = verdict(self.run.certificate)
        self.drawn: Sequence[Drawn] = drawn_frontier(self.found)
        self.points = [point for point in _points(self.run) if point.trials]
        self._by_key = {trial.trial_id: point for point in self.points for trial in point.trials}
        self._by_spot = {(point.group, point.name): point for point in self.points}

    def point(self, key: str) -> Point | None:
        """The point whose trial this is."""
        return self._by_key.get(key)

    def at(self, spot: Spot) -> Point | None:
        return self._by_spot.get((spot.group, spot.name))

    def pairs_of(self, key: str) -> list[int] | None:
        """The idx of the pairs that a trial was trained on; None where the study does not say."""
        trial = next((trial for trial in self.run.trials if trial.trial_id == key), None)
        return json.loads(trial.pairs) if trial is not None and trial.pairs else None

    def written(self, point: Point, trial_id: str) -> list[Written]:
        """What a trial's model wrote, beside the base model and full data's on the same prompts; differing ones first.

        Raises:
            InvalidData: The study's file cannot be read.
        """
        prompt_set = point.trials[0].prompt_set
        columns = {"base": self._level("base", prompt_set), "this point": trial_id}
        if point.name != "full":
            columns["full data"] = self._level("full", prompt_set)
        patterns = self.run.certificate.patterns
        rows: dict[tuple[int, int], tuple[str, dict[str, tuple[str, bool]]]] = {}
        try:
            with closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)) as database:
                refuse_programs(database, self._path)
                for name, trial in columns.items():
                    for harmful, index, prompt, text, refused in database.execute(
                        "SELECT harmful, prompt_index, prompt, completion, refused FROM scores "
                        "WHERE trial_id = ? AND completion IS NOT NULL",
                        (trial,),
                    ):
                        answers = rows.setdefault((-harmful, index), (prompt, {}))[1]
                        answers[name] = (text, bool(json.loads(refused).get(patterns)))
        except (sqlite3.Error, ValueError) as error:
            raise InvalidData(f"{self._path}: expected a study's scores, got {error}. Run the study again.") from error
        found = [Written(key[0] < 0, prompt, answers) for key, (prompt, answers) in sorted(rows.items())]
        return sorted((w for w in found if "this point" in w.answers), key=lambda w: not w.differ)

    def _level(self, arm: str, prompt_set: str) -> str | None:
        """The trial of the lowest seed that stands for an arm on a set of prompts."""
        if prompt_set == "confirm":
            found = confirm_trials(self.run.trials, self.run.certificate, arm)
        else:
            measured = [
                t for t in self.run.trials if t.arm == arm and t.prompt_set == prompt_set and "score" in t.metrics
            ]
            # Where several recipes were tuned, the frozen one is the one that scored best.
            found = sorted(measured, key=lambda t: (t.seed, -t.metrics["score"]))
        return found[0].trial_id if found else None


def _points(run: Run) -> list[Point]:
    found = frontier(run)
    trials = {trial.trial_id: trial for trial in run.trials}
    roles, points = selector_roles(found), []
    for i, p in enumerate(found.search):
        own = tuple(trials[trial_id] for trial_id in p.trial_ids)
        selector = selector_of(p.series)
        glyph = "●" if selector == p.series else "○"
        points.append(Point("search", str(i), p.series, p.budget, p.score, "", glyph, roles[selector], own))
    confirmed = [trial for trial in run.trials if trial.prompt_set == "confirm" and trial.arm == "subset"]
    for i, tested in enumerate(found.tested):
        own = sorted((t for t in confirmed if t.budget == tested.budget), key=lambda t: t.seed)
        said = "enough" if tested.passed else "not shown to be enough"
        look = ("●", "accent") if tested.passed else ("○", "fail")
        points.append(Point("tested", str(i), "the subset", tested.budget, tested.score, said, *look, tuple(own)))
    for arm, (marker, role, _) in comparators(found).items():
        size, score = found.arms[arm]
        own = confirm_trials(run.trials, run.certificate, arm)
        points.append(
            Point("arm", arm, ARM_NAMES.get(arm, arm), size or 0, score, "", _GLYPHS[marker], role, tuple(own))
        )
    return points
