"""How far do judges agree with people? LLMBar's 419 pairs: one answer follows its instruction better, people agree.

    python -m benchmarks.judges --data ../shared/data/judging --out runs/judges --judge longer \\
        --judge reward:model=runs/rm/model [--judge chat --teacher http://localhost:8000/v1 --model NAME]

One subset is natural; four are adversarial: there the worse answer is the one that looks better. A judge that guesses
is right half of the time. A tie counts as half right; a pair without a verdict does not count, and is told. The chat
judge is asked in both orders, and its replies are kept in --out, so a killed run goes on.

Source: Zeng et al. 2023, arXiv:2310.07641. Writes judges.json and judges.md into --out.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smidgen.cli.compare import labels
from smidgen.errors import InvalidData
from smidgen.evaluation.judges.base import Desk, Paid, load_judge
from smidgen.evaluation.matches import Match
from smidgen.evaluation.statistics import wilson
from smidgen.evaluation.verdict_parsing import FIRST, SECOND
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.evaluation.winrate import by_prompt, win_rate
from smidgen.models.chat.teacher import Teacher
from smidgen.runs import write_json, write_text

ALL, ADVERSARIAL = "all", "adversarial"


def read_pairs(folder: Path) -> tuple[list[Match], list[float], list[str]]:
    """The pairs as matches, people's outcome for `a` of each, and its subset."""
    matches, humans, subsets = [], [], []
    for path in sorted(folder.glob("LLMBar_*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            number = len(matches) + 1
            names = {"model_a": "output_1", "model_b": "output_2", "letter": "A", "number": number}
            matches.append(Match(prompt=row["input"], a=row["output_1"], b=row["output_2"], **names))
            if row["label"] not in (1, 2):
                raise InvalidData(
                    f"{path}: expected a label of 1 or 2, the better output, got {row['label']!r} for the instruction "
                    f"{row['input'][:40]!r}. Correct or remove that pair."
                )
            humans.append(WIN if row["label"] == 1 else LOSS)
            subsets.append(path.stem.removeprefix("LLMBar_"))
    if not matches:
        raise InvalidData(f"expected LLMBar_*.json in {folder}, found none; give the folder that holds them.")
    return matches, humans, subsets


def summary(verdicts: Sequence[Verdict], humans: Sequence[float]) -> dict[str, Any]:
    """What a judge got right, with a Wilson interval; its ties, flips and missing verdicts.

    `took_the_first` counts replies, two a pair, so its interval is over pairs.
    """
    judged = [(v.outcome, h) for v, h in zip(verdicts, humans, strict=True) if v.outcome is not None]
    right = sum(0.5 if outcome == TIE else float(outcome == h) for outcome, h in judged)
    both = [v for v in verdicts if v.flipped is not None]
    sides = by_prompt(
        (v.number, WIN if word == FIRST else LOSS) for v in both for word in v.orders.split() if word in (FIRST, SECOND)
    )
    first = win_rate(list(sides.values()))
    return {
        "pairs": len(verdicts),
        "judged": len(judged),
        "agreement": wilson(right, len(judged)).as_dict() if judged else None,
        "ties": sum(outcome == TIE for outcome, _ in judged),
        "problems": dict(Counter(v.problem for v in verdicts if v.outcome is None)),
        "flips": wilson(sum(bool(v.flipped) for v in both), len(both)).as_dict() if both else None,
        "took_the_first": first.as_dict() if first else None,
    }


def by_subset(verdicts: Sequence[Verdict], humans: Sequence[float], subsets: Sequence[str]) -> dict[str, Any]:
    """A summary of every subset, of the adversarial ones together, and of all."""
    found = {}
    for name in (*dict.fromkeys(subsets), ADVERSARIAL, ALL):
        inside = [i for i, s in enumerate(subsets) if name in (s, ALL) or (name == ADVERSARIAL and name in s.lower())]
        found[name] = summary([verdicts[i] for i in inside], [humans[i] for i in inside])
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: a judge a row, a subset a column."""
    names = list(next(iter(results.values())))
    lines = [f"| judge | {' | '.join(names)} | judged | ties | flips |", "|---" * (len(names) + 4) + "|"]
    for judge, found in results.items():
        whole = found[ALL]
        cells = [_share(found[name]["agreement"]) for name in names]
        tail = [f"{whole['judged']} of {whole['pairs']}", str(whole["ties"]), _share(whole["flips"])]
        lines.append(f"| {' | '.join([judge, *cells, *tail])} |")
    return "\n".join(lines) + "\n"


def _share(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def options() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with LLMBar_*.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", action="append", required=True, help="as of `smidgen compare`; repeatable")
    parser.add_argument("--rubric", default="", help="for the chat judge")
    parser.add_argument("--teacher", help="for the chat judge: an endpoint's address, or local")
    parser.add_argument("--model", default="", help="as the endpoint calls it; with local, a folder")
    parser.add_argument("--key-variable", default=None)
    parser.add_argument("--first", type=int, help="only so many pairs of each subset, for a quick look")
    return parser.parse_args()


def main() -> None:
    """Judge all pairs and write down what came of it."""
    given = options()
    matches, humans, subsets = read_pairs(given.data)
    kept = [i for i in range(len(matches)) if not given.first or subsets[:i].count(subsets[i]) < given.first]
    matches, humans, subsets = [matches[i] for i in kept], [humans[i] for i in kept], [subsets[i] for i in kept]
    given.out.mkdir(parents=True, exist_ok=True)
    teacher = None
    if given.teacher:
        teacher = Teacher(url=given.teacher, model=given.model, key_variable=given.key_variable)
    desk = Desk(folder=given.out, teacher=teacher, rubric=given.rubric)
    results, spent = {}, {}
    for label, spec in labels(given.judge).items():
        judge = load_judge(spec, desk)
        results[label] = by_subset(judge(matches), humans, subsets)
        if isinstance(judge, Paid) and judge.spending:
            spent[label] = judge.spending.summary() | {"model": given.model}
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}
    write_json(given.out / "judges.json", {"results": results, "spending": spent, "settings": settings})
    write_text(given.out / "judges.md", table(results))
    print(table(results))


if __name__ == "__main__":
    main()
