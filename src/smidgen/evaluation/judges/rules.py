"""Judges that are rules: what a function of prompt and text says of both answers. No model is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import NonNegativeFloat

from smidgen.errors import UsageError
from smidgen.evaluation.judges.base import Judge, check_tie_within, verdict_on
from smidgen.evaluation.matches import Match
from smidgen.evaluation.reward_rules import load_rule
from smidgen.evaluation.verdicts import Verdict
from smidgen.pairs import Message
from smidgen.settings import parse_spec


def text_judge(name: str, score: Callable[[str], float], *, tie_within: NonNegativeFloat = 0.0) -> Judge:
    """A judge by a function of the text alone, higher is better."""
    check_tie_within(tie_within)

    def judge_all(matches: Sequence[Match]) -> list[Verdict]:
        return [verdict_on(m, name, score(m.a), score(m.b), tie_within=tie_within) for m in matches]

    return judge_all


def rule_judge(spec: str) -> Judge:
    """A reward rule with its settings as a judge; `tie_within` is one more of them.

    Raises:
        UsageError: Unknown rule or setting.

    >>> from smidgen.evaluation.matches import Match
    >>> match = Match(number=1, letter="A", prompt="", model_a="m", model_b="n", a="Yes, please.", b="No.")
    >>> rule_judge("keywords:words=please")([match])[0].outcome
    1.0
    """
    name, settings = parse_spec(spec)
    tie_within = settings.pop("tie_within", 0.0)
    if not isinstance(tie_within, (int, float)):
        raise UsageError(f"expected tie_within as a number, got {tie_within!r}; give a distance such as 0.1.")
    check_tie_within(tie_within)
    kept = [item for item in spec.partition(":")[2].split(",") if item and item.split("=")[0].strip() != "tie_within"]
    rule = load_rule(f"{name}:{','.join(kept)}")

    def judge_all(matches: Sequence[Match]) -> list[Verdict]:
        prompts = [(Message("user", m.prompt),) for m in matches]
        if not matches:
            return []
        scores = [np.asarray(rule(prompts, [getattr(m, side) for m in matches]), np.float64) for side in ("a", "b")]
        return [
            verdict_on(m, name, float(a), float(b), tie_within=tie_within)
            for m, a, b in zip(matches, *scores, strict=True)
        ]

    return judge_all
