"""Which selector is best: every one of them at the same sizes, seeds and training budgets. Dev prompts only.

    python -m benchmarks.leaderboard --out runs/leaderboard
    python -m benchmarks.leaderboard --out runs/mine --config study.yaml --pairs FILE --model FOLDER \\
        --harmful FILE --harmless FILE --heldout FILE --sizes 100 250

Without --pairs, the embedded demo, whose pairs say what they teach: selectors never see it, the table reports it. A
budget of steps trains every subset for the same share of the full run's steps; one of epochs passes over each as often
as the full run over all. "swap" is the best ranking of each size and budget after rounds of swaps by metagradients; as
it is chosen and refined on the prompts it is measured on, though with other seeds, its score is the most flattered.

Killed and called again with the same arguments, it goes on. After every seed it writes leaderboard.json, .md, .png and
.svg into --out. It compares and claims nothing: a claim needs the confirm prompts, which are never asked here.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from benchmarks.leaderboard.options import check_sizes, input_sources, parse, study_settings
from benchmarks.leaderboard.rankings import MeasuringTime, Ranked, competing, rank
from benchmarks.leaderboard.report import write_report
from benchmarks.leaderboard.rows import BASE, FULL, FULL_CLEAN, SWAP, Row, n_looked_at, picked, scored, taught
from benchmarks.setting import machine

from smidgen.data.templates import load_template
from smidgen.errors import SmidgenError, UsageError
from smidgen.evaluation.patterns import load_pattern_lists
from smidgen.evaluation.surrogate import refusal_openings
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.runs import open_run, write_json
from smidgen.selection.features import WORK, Features
from smidgen.selection.gradient_groups import GradientSettings
from smidgen.selection.measure import measure_features
from smidgen.selection.selectors import is_inverted, selector
from smidgen.study.decide import Finalist
from smidgen.study.execute import local_executor
from smidgen.study.inputs import StudyInputs, read_inputs
from smidgen.study.plan import Candidate, StudySettings, Trial
from smidgen.study.records import StudyRecords, TrialRecord
from smidgen.study.search import DevLevels, dev_levels, tune_full
from smidgen.study.study import Progress, Study, mean_metric
from smidgen.study.swap import METAGRADIENTS, MetagradientOracle, metagradient_oracle, swap
from smidgen.study.trial import TrialContext

_NO_SHARE = 1e-9  # of the full run's steps: a subset trains for its own epochs alone


@dataclass(frozen=True, slots=True)
class Entry:
    """A ranking's subsets at one size and budget, and their trials, one a seed."""

    ranked: Ranked
    size: int
    budget: str
    trials: list[Trial]


class Leaderboard:
    """A leaderboard under way: its study, and what it has to say so far."""

    def __init__(self, options: Namespace, study: Study, inputs: StudyInputs) -> None:
        self.options, self.study = options, study
        self.truth = taught(inputs.pairs)
        self.n_looked_at = n_looked_at(len(inputs.pairs))
        # From 1 on: seed 0 trained the model that margins are measured with, and swaps are tried with seed 1.
        self.seeds = [study.dev_seed(number) for number in range(1, options.seeds + 1)]
        self.left_out: dict[str, str] = {}
        self.about: dict[str, Any] = {
            "machine": machine(),
            "pairs": len(inputs.pairs),
            "looked_at": self.n_looked_at,
            "heldout": len(inputs.heldout["dev"]),
            "prompts": [len(side) for side in inputs.prompts["dev"]],
            "settings": asdict(study.settings),
            "steps_share": options.steps_share,
        }

    def rankings(self, features: Features, measuring: MeasuringTime) -> list[Ranked]:
        """Everybody's; who lacks a column or a pair is left out with the reason."""
        found, most = [], max(*self.options.sizes, self.n_looked_at)
        for spec in competing(self.options.selectors):
            say(f"ranking: {spec}")
            try:
                ranked = rank(spec, features, self.seeds, most, measuring)
            except UsageError as error:
                self.left_out[spec] = str(error)
                continue
            if min(map(len, ranked.orders)) < max(self.options.sizes):
                self.left_out[spec] = f"finds {min(map(len, ranked.orders))} pairs eligible"
                continue
            found.append(ranked)
        self.about["rankings"] = {ranked.spec: self._of_ranking(ranked) for ranked in found}
        return found

    def _of_ranking(self, ranked: Ranked) -> dict[str, Any]:
        """What is known of a ranking before anything is trained on it."""
        teaches = picked([order[: self.n_looked_at] for order in ranked.orders], self.truth)
        return {"picked": None if teaches is None else asdict(teaches), "seconds": ranked.seconds, "note": ranked.note}

    def entries(self, rankings: Sequence[Ranked], n_seeds: int) -> list[Entry]:
        """Everybody at every size and budget with the first seeds; trials are run where they have not been."""
        found = [
            Entry(ranked, size, budget, [self._trial(ranked, size, budget, i) for i in range(n_seeds)])
            for budget in self.options.budgets
            for size in self.options.sizes
            for ranked in rankings
        ]
        trials = [trial for entry in found for trial in entry.trials]
        self.study.results(trials, f"{n_seeds} of {self.options.seeds} seeds")
        return found

    def _trial(self, ranked: Ranked, size: int, budget: str, number: int) -> Trial:
        candidate = Candidate(ranked.spec, ranked.orders[number][:size])
        return self._under(budget).subset_trial(candidate, stage="search", arm="search", seed=self.seeds[number])

    def _under(self, budget: str) -> Study:
        """The same study, whose subsets train for as long as the budget says."""
        share = self.options.steps_share if budget == "steps" else _NO_SHARE
        return replace(self.study, settings=replace(self.study.settings, subset_steps=share))

    def entry_row(self, entry: Entry) -> Row:
        trials = entry.trials
        known = self.about["rankings"][entry.ranked.spec]
        return self._row(
            trials,
            selector=entry.ranked.spec,
            size=entry.size,
            budget=entry.budget,
            steps=trials[0].steps,
            **known,
        )

    def reference_rows(self, full: Sequence[Trial], levels: DevLevels, features: Features) -> list[Row]:
        """Base, full, and full without the pairs that look inverted."""
        study, n_pairs = self.study, len(self.study.all_idxs)
        rows = [
            self._row(levels.base, selector=BASE, size=0, steps=0),
            self._row(full, selector=FULL, size=n_pairs, steps=full[0].steps),
        ]
        clean = Candidate("", tuple(int(idx) for idx in features.idx[~is_inverted(features)]))
        if clean.size == n_pairs:
            self.left_out[FULL_CLEAN] = "no pair looks inverted, so it is the same as full"
            return rows
        trials = [study.subset_trial(clean, stage="search", arm=FULL_CLEAN, seed=seed) for seed in self.seeds]
        study.results(trials, "full without inverted pairs")
        return [*rows, self._row(trials, selector=FULL_CLEAN, size=clean.size, steps=trials[0].steps)]

    def swap_row(self, rivals: Sequence[Entry], oracle: MetagradientOracle, levels: DevLevels) -> Row | None:
        """The best of one size and budget, its pairs swapped by metagradients; None where no round gained."""
        budget, size = rivals[0].budget, rivals[0].size
        study = self._under(budget)
        found = iter(study.results([trial for entry in rivals for trial in entry.trials], "the best ranking"))
        records = [[next(found) for _ in entry.trials] for entry in rivals]
        scores = [mean_metric(own, "score") for own in records]
        won = max(range(len(rivals)), key=scores.__getitem__)
        trials = rivals[won].trials
        start = Candidate(trials[0].selector, trials[0].idxs)
        swapped = swap(study, Finalist(start, scores[won], True, records[won]), oracle, levels)
        if not swapped:
            self.left_out[f"swap at {size}, equal {budget}"] = f"no swap in {start.selector} gained"
            return None
        ends = swapped[0].candidate
        teaches = picked([ends.idxs], self.truth)
        n_swapped = len(set(ends.idxs) - set(start.idxs))
        return self._row(
            swapped[0].trials,
            selector=SWAP,
            size=size,
            budget=budget,
            steps=trials[0].steps,
            picked=None if teaches is None else asdict(teaches),
            note=f"{start.selector} ({scores[won]:.3f}) with {n_swapped} of its pairs swapped",
        )

    def _row(self, trials: Sequence[Trial | TrialRecord], **about: Any) -> Row:
        settings = self.study.settings
        return scored(self.study.records.arm(trials, settings.patterns), confidence=settings.confidence, **about)

    def write(self, rows: Sequence[Row]) -> None:
        found = {**self.about, "rows": [asdict(row) for row in rows], "left_out": self.left_out}
        write_json(self.options.out / "leaderboard.json", found)
        if rows:
            write_report(self.options.out)


def run(options: Namespace) -> None:
    settings, sources = study_settings(options), input_sources(options)
    for spec in competing(options.selectors):
        selector.bind(spec)
    torch.set_num_threads(options.threads)
    work = {"work": "leaderboard", "sources": sources, "model": options.model, "settings": asdict(settings)}
    open_run(options.out, {**work, "sources": {name: str(value) for name, value in sources.items()}})
    lm = load_language_model(options.model)
    inputs = read_inputs(lm, **sources, out=options.out)
    check_sizes(options, settings, len(inputs.pairs))
    settings = replace(
        settings,
        dev_seeds=options.seeds,
        swap_rounds=settings.swap_rounds if options.swap_rounds is None else options.swap_rounds,
    )
    context = trial_context(options, lm, inputs, settings)
    with local_executor(context, workers=options.workers) as run_trials:
        records = StudyRecords(options.out / "study.sqlite")
        study = Study(settings, tuple(inputs.pairs.idxs), settings.recipe, records, run_trials, progress())
        full = tune_full(study)
        measuring = MeasuringTime(options.out)
        features, _ = measure_features(
            lm,
            inputs.pairs,
            inputs.encoded,
            template=load_template(context.template, lm.tokenizer),
            harmful=inputs.prompts["dev"][0],
            harmless=inputs.prompts["dev"][1],
            aligned=lambda: load_language_model(context.weights / full[0].trial_id),
            gradients=GradientSettings(objective=settings.loss, recipe=study.recipe, seed=settings.seed),
            work=options.out / WORK,
            on_block=measuring.on_block,
        )
        board = Leaderboard(options, study, inputs)
        rankings = board.rankings(features, measuring)
        board.write([])
        measuring.start()
        levels = dev_levels(study, full)
        references = board.reference_rows(full, levels, features)
        entries: list[Entry] = []
        for n_seeds in range(1, options.seeds + 1):
            entries = board.entries(rankings, n_seeds)
            board.write([*references, *map(board.entry_row, entries)])
        rows = [*references, *map(board.entry_row, entries)]
        oracle = metagradient_oracle(lm, context, features, options.out / METAGRADIENTS)
        for budget in options.budgets if settings.swap_rounds else ():
            for size in options.sizes:
                rivals = [entry for entry in entries if (entry.budget, entry.size) == (budget, size)]
                rows += filter(None, [board.swap_row(rivals, oracle, levels)])
                board.write(rows)


def trial_context(options: Namespace, lm: LanguageModel, inputs: StudyInputs, settings: StudySettings) -> TrialContext:
    (patterns,) = load_pattern_lists([settings.patterns])
    template = load_template(options.template, lm.tokenizer)
    answers = (pair.chosen_text for pair in inputs.pairs)
    return TrialContext(
        model=options.model,
        template=options.template,
        pairs=tuple(inputs.encoded),
        heldout=inputs.heldout,
        prompts=inputs.prompts,
        reference_store=options.out / "reference.sqlite",
        weights=options.out / "weights",
        pattern_lists=settings.pattern_lists,
        openings=refusal_openings(answers, patterns.matches, template, lm.tokenizer),
        max_new_tokens=settings.max_new_tokens,
        threads=options.threads,
    )


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def progress() -> Callable[[Progress], None]:
    def watch(event: Progress) -> None:
        took = f", {event.record.wall_seconds:.1f} s: {event.record.selector}" if event.record else ""
        say(f"{event.activity}: {event.done} of {event.total}{took}")

    return watch


def main() -> None:
    options = parse(__doc__)
    try:
        if options.only != "report":
            run(options)
        print(write_report(options.out))
    except SmidgenError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
