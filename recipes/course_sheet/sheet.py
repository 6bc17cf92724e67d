"""The week's sheet as LaTeX, as a PDF where LaTeX is installed, and as the zip to hand in.

Win, lose and tie of the tuned models come from folders that `smidgen compare` wrote; E.1 to E.5 follow from numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hand_in import hand_in, sheet_stem
from judged import Judged, completions_of, conclusions, read_judged, texts
from latex import PREAMBLE, table, text

from smidgen.errors import SmidgenError, UsageError
from smidgen.evaluation.completions_files import model_name, write_completions_text
from smidgen.explain.base import Explanation, Table
from smidgen.explain.preferences import CONVENTIONS
from smidgen.explain.sheet import sheet as explanations
from smidgen.runs import content_hash, write_text
from smidgen.settings import read_settings

HERE = Path(__file__).parent
SCRIPTS = ("generating.py", "llm_completion.py", "llm_summarization.py", "pref_training_completion.py")
# By explanation, the section that it answers; ratings answer the first two.
E_SECTIONS = {
    "reward": "E.3 Losses",
    "dpo": "E.3 Losses",
    "objectives": "E.3 Losses",
    "policy": "E.4 How the policy is expected to change",
    "beta": "E.5 What β does, and why",
}
_E1, _E2 = "E.1 Preference probabilities", "E.2 What is preferred, and by whom"
_MARK = "% Written by sheet.py; of what follows: "


def document(author: tuple[str, str], parts: Mapping[str, Judged], found: Sequence[Explanation]) -> str:
    """The whole .tex.

    Args:
        author: Last name and matriculation number.
        parts: By the name of a section the comparison that it is about; it may be empty.
        found: Explanations of the numbers.
    """
    name, number = map(text, author)
    body = [rf"\title{{Week 5}}\author{{{name}\\{number}}}\date{{}}", r"\begin{document}\maketitle"]
    for title, judged in parts.items():
        body += [rf"\section*{{{title}}}", conclusions(judged)]
    for title, content in answers(found).items():
        body += [rf"\section*{{{text(title)}}}", *content]
    for title, judged in parts.items():
        body += [rf"\section*{{Texts: {title[0].lower()}{title[1:]}}}", texts(judged)]
    return "\n\n".join([PREAMBLE, *body, "\\end{document}\n"])


def answers(found: Sequence[Explanation]) -> dict[str, list[str]]:
    """The sections E.1 to E.5 that explanations answer, in order, each with its parts."""
    sections: dict[str, list[str]] = {title: [] for title in (_E1, _E2, *E_SECTIONS.values())}
    for one in found:
        if one.name == "ratings":
            n = len(CONVENTIONS)
            sections[_E1] += _part(one, one.tables[:n], ())
            sections[_E2] += [*map(table, one.tables[n:]), *map(text, one.conclusion)]
        else:
            sections[E_SECTIONS[one.name]] += _part(one, one.tables, one.conclusion)
    return {title: content for title, content in sections.items() if content}


def _part(one: Explanation, tables: Sequence[Table], said: Sequence[str]) -> list[str]:
    given = "; ".join(f"{name}: {value}" for name, value in one.given.items())
    return [
        rf"\subsection*{{{text(one.title)}}}",
        text(f"Given: {given}.") + r"\nopagebreak",
        *map(table, tables),
        *map(text, said),
    ]


def write_sheet(path: Path, tex: str) -> None:
    """Write a .tex, unless somebody changed the one that is there.

    Raises:
        UsageError: The file was changed since it was written.
    """
    if path.exists():
        head, _, rest = path.read_text(encoding="utf-8").partition("\n")
        if head != _MARK + content_hash(rest):
            raise UsageError(
                f"expected {path} as sheet.py wrote it, got one that was changed; to keep the changes, run hand_in.py "
                f"{path.parent}, or else remove the file."
            )
    write_text(path, f"{_MARK}{content_hash(tex)}\n{tex}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="your last name")
    parser.add_argument("--matriculation", required=True, help="your matriculation number")
    parser.add_argument("--completions", type=Path, metavar="FOLDER", help="that `smidgen compare` wrote, tuned second")
    parser.add_argument("--summaries", type=Path, metavar="FOLDER", help="the same for the summaries")
    parser.add_argument("--numbers", type=Path, default=HERE / "numbers.yaml", help="of E.1 to E.5 (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("hand_in"), help="a folder of its own (%(default)s)")
    given = parser.parse_args(argv)
    try:
        print("\n".join(_write(given)))
    except SmidgenError as error:
        print(f"sheet.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _write(given: argparse.Namespace) -> list[str]:
    stem = sheet_stem(given.name, given.matriculation)
    wanted = {
        "Completions": (given.completions, "COMPLETION", "shakespeare_completions"),
        "Summaries": (given.summaries, "SUMMARY", "reddit_summaries"),
    }
    parts = {title: read_judged(folder) for title, (folder, *_) in wanted.items() if folder}
    if not given.numbers.is_file():
        raise UsageError(f"expected a file of numbers at {given.numbers}, got none; see {HERE / 'numbers.yaml'}.")
    numbers = read_settings(given.numbers)
    numbers.pop("title", None)
    write_sheet(given.out / f"{stem}.tex", document((given.name, given.matriculation), parts, explanations(numbers)))
    for title, judged in parts.items():
        folder, label, name = wanted[title]
        for one in completions_of(judged, label):
            # Names come from files: none may lead out of the folder.
            model = model_name(one.model.replace("/", "-"))
            write_completions_text(given.out / f"output_{name}_{model}.txt", one)
        write_text(given.out / f"verdicts_{name}.jsonl", (folder / "verdicts.jsonl").read_text(encoding="utf-8"))
    for file in (*(HERE / name for name in SCRIPTS), given.numbers):
        write_text(given.out / file.name, file.read_text(encoding="utf-8"))
    return [str(given.out / f"{stem}.tex"), *hand_in(given.out)]


if __name__ == "__main__":
    sys.exit(main())
