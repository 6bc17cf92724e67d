"""`smidgen plan`: what a claim needs, told before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval
from cyclopts import Parameter
from pydantic import NonNegativeFloat, PositiveInt

from smidgen.cli.flags import RARE
from smidgen.cli.outcome import Outcome
from smidgen.errors import UsageError
from smidgen.evaluation.power import Spread
from smidgen.settings import OpenShare, Share
from smidgen.study.design import ACCURACY, PROMPTS_SHOWN, SEEDS_SHOWN, plan_study, spread_of_runs
from smidgen.study.plan import StudySettings

_DEFAULT = Spread()


def plan(
    *,
    delta: OpenShare = 0.1,
    confirm_seeds: PositiveInt = 5,
    power: OpenShare = 0.8,
    runs: Annotated[tuple[Path, ...], Parameter(name="--run", metavar="FOLDER")] = (),
    harmful_rate: Share | None = None,
    harmless_rate: Share | None = None,
    rho: Annotated[float, Interval(ge=-1, le=1)] | None = None,
    seed_sd: NonNegativeFloat | None = None,
    change: Annotated[float, Interval(ge=-1, le=1)] = 0.0,
    n_pairs: PositiveInt = 5000,
    accuracy_delta: Annotated[OpenShare, RARE] = 0.05,
    confidence: Annotated[OpenShare, RARE] = 0.95,
) -> Outcome:
    """Tell how many prompts, seeds and trials a claim needs.

    A claim at delta says that the subset scores no more than delta below full data. The power is that of the score's
    test at one size; the held-out pairs are told for the accuracy's.

    Args:
        delta: Non-inferiority margin.
        confirm_seeds: Fresh seeds of every arm.
        power: Chance of the claim that is asked for.
        runs: A finished run to take rates, rho and seed spread from; repeatable.
        harmful_rate: Full data's refusal rate on harmful prompts; .45 without --run.
        harmless_rate: Its refusal rate on harmless ones; .05 without --run.
        rho: Correlation of subset and full at a prompt; .5 without --run.
        seed_sd: Standard deviation of a score over seeds; .08 without --run.
        change: True score of the subset minus full's.
        n_pairs: Pairs of the study, for the number of trials.
        accuracy_delta: Margin of held-out accuracy.
        confidence: One-sided, of every test.
    """
    _check(rho=rho, harmful_rate=harmful_rate, harmless_rate=harmless_rate)
    _check_open(delta=delta, accuracy_delta=accuracy_delta, confidence=confidence)
    if not 1 - confidence < power < 1:
        raise UsageError(
            f"expected power above {1 - confidence:.2g}, the chance of a false claim, and below 1, got {power:g}; "
            "0.8 is usual."
        )
    found, accuracy = spread_of_runs(runs) if runs else (_DEFAULT, None)
    if delta + change <= 0:
        raise UsageError(f"expected a change above {-delta:g}, got {change:g}: nothing true could be claimed.")
    result = plan_study(
        StudySettings(confirm_seeds=confirm_seeds, accuracy_delta=accuracy_delta, confidence=confidence),
        delta=delta,
        spread=Spread(
            rates=(_given(harmful_rate, found.rates[0]), _given(harmless_rate, found.rates[1])),
            rho=_given(rho, found.rho),
            seed_sd=_given(seed_sd, found.seed_sd),
        ),
        accuracy=accuracy or ACCURACY,
        power=power,
        change=change,
        n_pairs=n_pairs,
    )
    return Outcome(result, _text(result))


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _check(**shares: float | None) -> None:
    for name, value in shares.items():
        if value is not None and not 0 <= value < 1:
            raise UsageError(f"expected {name} from 0 to less than 1, got {value:g}.")


def _check_open(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 < value < 1:
            raise UsageError(f"expected {name} between 0 and 1, got {value:g}.")


def _text(result: Mapping[str, Any]) -> str:
    spread, seeds = result["spread"], result["n_seeds"]
    needed, textbook = result["prompts_per_class"], result["textbook_prompts"]
    by_seeds = result["prompts_by_seeds"]
    lines = [
        f"A claim at δ = {result['delta']:g}, power {result['power']:.0%}, {result['confidence']:.0%} confidence, "
        f"true change {result['change']:+g}.",
        f"Assumed: full refuses {spread['rates'][0]:.1%} of harmful and {spread['rates'][1]:.1%} of harmless prompts; "
        f"rho {spread['rho']:.2f}, seed sd {spread['seed_sd']:.3f}.",
        "",
    ]
    if needed is None:
        lines.append(
            f"With {seeds} seeds no number of prompts is enough: seeds differ too much. It takes "
            f"{result['least_seeds'] or 'more than 100'} seeds."
        )
    else:
        lines.append(f"With {seeds} seeds: {needed:,} confirm prompts of each class.")
    lines += [
        f"Seeds alike and variances known: {textbook['paired']:,} ({textbook['unpaired']:,} if unpaired); no fewer do.",
        f"Held-out pairs on the confirm side, for accuracy: {_or_more_seeds(result['heldout_pairs'])}.",
        f"At most {result['trials']} trials with {seeds} seeds.",
        "",
        "Prompts of each class, by seeds:",
        *(f"{row['n_seeds']:>6} seeds  {_or_more_seeds(row['prompts_per_class'])}" for row in by_seeds),
        "",
        "Power, by prompts of each class (rows) and seeds (columns):",
        " " * 8 + "".join(f"{n:>7}" for n in SEEDS_SHOWN),
        *_rows(result["table"]),
    ]
    return "\n".join(lines)


def _or_more_seeds(n: int | None) -> str:
    return "no number is enough; more seeds are" if n is None else f"{n:,}"


def _rows(table: Sequence[Mapping[str, Any]]) -> list[str]:
    power = {(row["prompts_per_class"], row["n_seeds"]): row["power"] for row in table}
    return [f"{n:>8}" + "".join(f"{power[n, seeds]:>7.2f}" for seeds in SEEDS_SHOWN) for n in PROMPTS_SHOWN]
