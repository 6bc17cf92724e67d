"""The judge that is a reward model: the answer it scores higher wins."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeFloat, PositiveInt

from smidgen.data.templates import load_template
from smidgen.evaluation.judges.base import Judge, check_tie_within, judge, no_verdict, verdict_on
from smidgen.evaluation.matches import Match
from smidgen.evaluation.verdicts import Verdict
from smidgen.pairs import Message


@judge
def reward(
    *, model: str, template: str = "plain", tie_within: NonNegativeFloat = 0.0, batch_tokens: PositiveInt = 8192
) -> Judge:
    """The answer with the higher reward wins; a conversation longer than the model takes has no verdict.

    Args:
        model: A reward model: a folder or a hub name.
        template: How prompt and answer become text for it.
        tie_within: How far apart two rewards may be and still tie.
        batch_tokens: Tokens of a batch, padding counted.
    """
    # Here, not above: every other judge does without torch.
    from smidgen.models.reward_model import load_reward_model

    check_tie_within(tie_within)
    rm = load_reward_model(model)
    shape = load_template(template, rm.lm.tokenizer)

    def judge_all(matches: Sequence[Match]) -> list[Verdict]:
        # Each conversation once: what company it is batched with moves a score by rounding, and equal answers must tie.
        asked = list(dict.fromkeys((m.prompt, text) for m in matches for text in (m.a, m.b)))
        rows = rm.encode([(Message("user", p),) for p, _ in asked], [text for _, text in asked], shape)
        fitting = [i for i, row in enumerate(rows) if len(row) <= rm.max_tokens]
        rewards = rm.score_rows([rows[i] for i in fitting], batch_tokens=batch_tokens)
        score = {asked[i]: value for i, value in zip(fitting, rewards.tolist(), strict=True)}
        verdicts = []
        for m in matches:
            a, b = score.get((m.prompt, m.a)), score.get((m.prompt, m.b))
            if a is None or b is None:
                verdicts.append(no_verdict(m, "reward", score_a=a, score_b=b, problem="over_long"))
            else:
                verdicts.append(verdict_on(m, "reward", a, b, tie_within=tie_within))
        return verdicts

    return judge_all
