"""What a dry run of `smidgen compare` says: what models would write, and what judges would be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from smidgen.cli.contenders import Contender, planned, planned_line
from smidgen.cli.outcome import Outcome
from smidgen.cli.teacher import estimate_data, estimate_lines
from smidgen.data.prompts import load_prompts
from smidgen.evaluation.drawing import Drawing
from smidgen.evaluation.judges.base import Judge, Paid
from smidgen.evaluation.matches import Match
from smidgen.evaluation.verdicts import Verdict


def plan_of_writing(
    bench: Mapping[str, Judge], asked: Sequence[Contender], given: Mapping[str, Any], drawing: Drawing
) -> Outcome:
    """What a dry run says where models have yet to write what is judged."""
    prompts = load_prompts(given["prompts"], form=given["prompt_format"]) if given["prompts"] else []
    written = [planned(one, prompts, drawing, given["out"]) for one in asked if one.is_model]
    most = len(list(combinations(asked, 2))) * len(prompts) * drawing.n
    lines = [
        *map(planned_line, written),
        f"then at most {most:,} matches to judge by {', '.join(bench) or 'verdicts given'}; what a judge that "
        "is paid costs depends on what they write",
        "dry run: nothing written",
    ]
    return Outcome({"writes": written, "most_matches": most, "judges": list(bench)}, "\n".join(lines))


def plan_of_judging(bench: Mapping[str, Judge], matches: Sequence[Match], given: Sequence[Verdict]) -> Outcome:
    """What a dry run says where all that is judged is there: how many matches, and what paid judges ask."""
    lines = [f"{len(matches)} matches to judge by {', '.join(bench) or 'verdicts given'}; dry run: nothing written"]
    data: dict[str, Any] = {"matches": len(matches), "verdicts": len(given), "judges": {}}
    for label, one in bench.items():
        if isinstance(one, Paid):
            found = one.plan(matches)
            data["judges"][label] = estimate_data(found)
            lines += [f"{label}: {line}" for line in (*estimate_lines(found), *one.notes)]
            lines.append("replies that are cut are asked for again, on top of that")
    return Outcome(data, "\n".join(lines))
