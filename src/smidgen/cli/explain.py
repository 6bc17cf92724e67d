"""`smidgen explain …`: the theory on the user's own numbers, on the terminal or as a page."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile
from pydantic import PositiveFloat, PositiveInt

from smidgen.cli.outcome import Outcome, claimed
from smidgen.errors import UsageError
from smidgen.settings import read_settings

if TYPE_CHECKING:
    from smidgen.explain.base import Explanation

app = App(name="explain", help="Explain ratings, losses and β on your own numbers.")


def _commas(_: Any, tokens: Sequence[Any]) -> tuple[float, ...]:
    """Numbers between commas in one word; from a file of settings, each in one of its own."""
    parts = [part.strip() for token in tokens for part in token.value.split(",")]
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise ValueError(f"expected numbers between commas, got {', '.join(parts)!r}; write .2,.3") from None


NUMBERS = Parameter(converter=_commas, n_tokens=1, allow_leading_hyphen=True)
Policy = Annotated[
    tuple[float, ...],
    NUMBERS,
    Parameter(metavar="W,L", help="Probabilities of the chosen and the rejected answer under the policy."),
]
Reference = Annotated[
    tuple[float, ...],
    NUMBERS,
    Parameter(metavar="W,L", help="The same under the reference, which training started from."),
]
Beta = Annotated[PositiveFloat, Parameter(help="Strength of the pull to the reference.")]
Logs = Annotated[bool, Parameter(help="Probabilities are given as log-probabilities, nats; sums over tokens.")]
Out = Annotated[
    Path | None,
    Parameter(metavar="FOLDER", help="Also write a page, pictures and JSON there; other work is never overwritten."),
]


@app.command
def ratings(
    *,
    group: Annotated[tuple[str, ...], Parameter(metavar="R,R,…", allow_leading_hyphen=True)] = (),
    file: Annotated[ExistingFile | None, Parameter(metavar="FILE")] = None,
    answers: Annotated[str, Parameter(metavar="A,B,…")] = "",
    names: Annotated[str, Parameter(metavar="A,B,…")] = "",
    weights: Annotated[tuple[PositiveFloat, ...], NUMBERS, Parameter(metavar="N,N,…")] = (),
    out: Out = None,
) -> Outcome:
    """Bradley–Terry tables, and what MaxMin, mean and one pooled model pick.

    Args:
        group: One group's ratings of all answers, at least 0; repeatable.
        file: The same as CSV, JSON or JSONL: a column a answer, and group and weight where wanted.
        answers: Names of the answers.
        names: Names of the groups.
        weights: Sizes of the groups.
    """
    arguments = dict(locals())
    from smidgen.cli.ratings_file import read_groups, split_names, split_ratings
    from smidgen.explain.ratings import ratings as explain

    if bool(group) == (file is not None):
        raise UsageError("expected either --group or --file, got both or neither; give the one with the ratings.")
    given: dict[str, Any] = read_groups(file) if file else {"groups": tuple(map(split_ratings, group))}
    own = {"answers": split_names(answers), "names": split_names(names), "weights": weights}
    given |= {name: value for name, value in own.items() if value}
    return _told([explain(**given)], Asked("ratings", arguments, out, (file,) if file else ()))


@app.command
def reward(
    *,
    chosen: Annotated[float, Parameter(metavar="R", allow_leading_hyphen=True)],
    rejected: Annotated[float, Parameter(metavar="R", allow_leading_hyphen=True)],
    out: Out = None,
) -> Outcome:
    """A reward model's probability, loss and gradient on one pair.

    Args:
        chosen: Learned reward of the answer that people chose.
        rejected: Learned reward of the other.
    """
    arguments = dict(locals())
    from smidgen.explain.reward import reward as explain

    return _told([explain(chosen=chosen, rejected=rejected)], Asked("reward", arguments, out))


@app.command
def dpo(*, policy: Policy, reference: Reference, beta: Beta = 0.1, logs: Logs = False, out: Out = None) -> Outcome:
    """DPO on one pair, step by step: margin, implicit rewards, loss, gradient."""
    arguments = dict(locals())
    from smidgen.explain.dpo import dpo as explain

    pairs = {"policy": _pair("policy", policy), "reference": _pair("reference", reference)}
    return _told([explain(**pairs, beta=beta, logs=logs)], Asked("dpo", arguments, out))


@app.command
def beta(
    *,
    policy: Policy,
    reference: Annotated[tuple[str, ...], Parameter(metavar="W,L", allow_leading_hyphen=True)],
    betas: Annotated[tuple[PositiveFloat, ...], NUMBERS, Parameter(metavar="B,B,…")] = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0),
    logs: Logs = False,
    out: Out = None,
) -> Outcome:
    """What β does to DPO's loss and gradient, for a right and a wrong margin.

    Args:
        reference: The same under the reference; repeatable, to compare. With one, the label is also turned round.
        betas: Values to tabulate.
    """
    arguments = dict(locals())
    from smidgen.cli.ratings_file import split_ratings
    from smidgen.explain.beta import beta as explain

    references = tuple(_pair("reference", split_ratings(text)) for text in reference)
    found = explain(policy=_pair("policy", policy), references=references, betas=betas, logs=logs)
    return _told([found], Asked("beta", arguments, out))


@app.command
def policy(
    *,
    policy: Policy,
    reference: Reference,
    rewards: Annotated[tuple[float, ...], NUMBERS, Parameter(metavar="W,L")],
    beta: Beta = 0.1,
    rest_reward: Annotated[float | None, Parameter(metavar="R", allow_leading_hyphen=True)] = None,
    steps: PositiveInt = 100,
    learning_rate: PositiveFloat | None = None,
    out: Out = None,
) -> Outcome:
    """How RLHF and DPO move the policy from here, and why.

    Args:
        rewards: Learned rewards of both answers, which RLHF follows.
        rest_reward: Reward of all other answers; without it, the reference's mean over the two.
        steps: Of gradient ascent to follow.
        learning_rate: Of these; without it, chosen by β and the rewards.
    """
    arguments = dict(locals())
    from smidgen.explain.policy import policy as explain

    given = {"policy": policy, "reference": reference, "rewards": rewards}
    pairs = {name: _pair(name, value) for name, value in given.items()}
    found = explain(**pairs, beta=beta, rest_reward=rest_reward, steps=steps, learning_rate=learning_rate)
    return _told([found], Asked("policy", arguments, out))


@app.command
def objectives(
    *,
    policy: Policy,
    reference: Reference,
    beta: PositiveFloat | None = None,
    loss: Annotated[tuple[str, ...], Parameter(metavar="NAME:K=V")] = (),
    scores: Annotated[tuple[float, ...], NUMBERS, Parameter(metavar="W,L")] = (1.0, 0.0),
    logs: Logs = False,
    out: Out = None,
) -> Outcome:
    """What every registered objective does to chosen and rejected here.

    Args:
        beta: For every objective that takes one; without it, each has its own default.
        loss: A registered loss, with settings if wanted; repeatable. Without it, all.
        scores: External scores of both answers, for objectives that learn from them.
    """
    arguments = dict(locals())
    from smidgen.explain.objectives import objectives as explain

    given = {"policy": policy, "reference": reference, "scores": scores}
    pairs = {name: _pair(name, value) for name, value in given.items()}
    return _told([explain(**pairs, beta=beta, losses=loss, logs=logs)], Asked("objectives", arguments, out))


@app.command
def sheet(file: Annotated[ExistingFile, Parameter(metavar="FILE")], /, *, out: Out = None) -> Outcome:
    """Several explanations on one page, from a YAML file.

    Each entry is named as a command is, and holds its settings (numbers in lists), or a list of such. An entry `title`
    heads the page.

    Args:
        file: The sheet.
    """
    arguments = {"out": out}
    from smidgen.explain.sheet import sheet as explain

    sections = read_settings(file)
    title = str(sections.pop("title", ""))
    return _told(explain(sections), Asked("sheet", arguments, out, (file,), title))


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, as a folder remembers it."""

    name: str
    arguments: Mapping[str, Any]
    out: Path | None
    inputs: Sequence[Path] = ()
    title: str = ""


def _pair(name: str, values: tuple[float, ...]) -> tuple[float, float]:
    if len(values) != 2:
        raise UsageError(
            f"expected --{name} with two numbers, of the chosen and of the rejected answer, got {len(values)}; write "
            f"--{name} .2,.3."
        )
    return values[0], values[1]


def _told(found: Sequence[Explanation], asked: Asked) -> Outcome:
    """Print explanations, and write them where that was asked for."""
    from smidgen.cli.explain_text import explanation_text
    from smidgen.explain.base import as_data

    width = min(100, max(60, shutil.get_terminal_size().columns))
    texts = [explanation_text(one, width) for one in found]
    if asked.out is not None:
        from smidgen.report.explanation import write_explanation

        with claimed(asked.out, f"explain {asked.name}", asked.arguments, asked.inputs):
            page, *_ = write_explanation(asked.out, found, title=asked.title)
        texts.append(str(page))
    return Outcome({**as_data(found), "out": asked.out and str(asked.out)}, "\n\n\n".join(texts))
