"""The course's sheet, offline on stand-ins: hostile text inert, verdicts right, numbers by hand, names and limits."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.assets import DEMO
from smidgen.cli import main
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.completions_files import read_completions, write_completions_text
from smidgen.evaluation.matches import matches_of, write_matches
from smidgen.evaluation.verdicts import Verdict, write_verdicts
from smidgen.explain.base import Table
from smidgen.runs import write_json

RECIPE = Path(__file__).parents[2] / "recipes" / "course_sheet"
MODULES = ("latex", "judged", "hand_in", "sheet", "generating")
HOSTILE = (
    r"\input{/etc/passwd} \write18{touch owned} \immediate\openout5=owned \def\x{\x}\x \end{document}",
    r"100% of #1 costs $5 & a_b ^^41 ~ {half} open} close{ \\[2cm] * [x] `` '' -- --- ,, << >> | \verb",
    "^^5cinput{x} \x00\x1b[31m\u202eabc\u2066 \U0001f600 日本語 العربية é ß Ł ħ e\u0301",
    "[looks like an option] & *",
    "a" * 300,
    "",
    "   \n\n  deep\n\tindent\r\nlast\u2028line",
)
PREFIXES = "MIRA:\nThe lamps are low, and yet\n\nOSWIN:\nWho goes upon the wall?\nSpeak, or\n"
POSTS = "TITLE: Goat POST: It ate my beans. TL;DR:\nTITLE: Bread POST: It does not rise. TL;DR:\n"


@pytest.fixture(scope="module")
def recipe() -> Iterator[SimpleNamespace]:
    """The recipe's modules, imported as its scripts import each other."""
    before = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    sys.path.insert(0, str(RECIPE))
    yield SimpleNamespace(**{name: import_module(name) for name in MODULES})
    sys.path.remove(str(RECIPE))
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def completions(model: str, *, n: int = 2) -> Completions:
    """Texts that cannot be mistaken for others, two a prompt."""
    rows = [Completed(f"Prompt {i}", (f"{model} wrote {i} alpha", f"{model} wrote {i} beta")) for i in range(n)]
    return Completions(model=model, rows=tuple(rows))


def judged_folder(folder: Path, contenders: list[Completions], verdicts: list[Verdict]) -> Path:
    """What `smidgen compare` makes of completions in text files and verdicts made elsewhere."""
    folder.mkdir()
    files = [folder / f"output_shakespeare_completions_{one.model}.txt" for one in contenders]
    for file, one in zip(files, contenders, strict=True):
        write_completions_text(file, one)
    write_verdicts(folder / "given.jsonl", verdicts)
    told = ["--verdicts", str(folder / "given.jsonl"), "--out", str(folder / "compared")]
    assert main(["compare", *map(str, files), *told]) in (0, 4)
    return folder / "compared"


def say(number: int, letter: str, outcome: float | None, *, rater: str = "", turned: bool = False) -> Verdict:
    """A person's word on sft against pref, filed the other way round where `turned`; outcome is sft's."""
    names = ("pref", "sft") if turned else ("sft", "pref")
    shown = None if outcome is None else 1 - outcome if turned else outcome
    return Verdict(
        judge="human", rater=rater, number=number, letter=letter, model_a=names[0], model_b=names[1], outcome=shown,
        problem="" if outcome is not None else "no_reply",
    )  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    verdicts = [
        say(1, "A", 0.0), say(1, "B", 1.0), say(2, "A", 0.5), say(2, "B", 0.0, turned=True),
    ]  # fmt: skip
    return judged_folder(tmp_path_factory.mktemp("sheet") / "x", [completions("sft"), completions("pref")], verdicts)


# --- text

_INERT = re.compile(
    r"(?:\\[{}%#$&_]|\\text[a-z]+\{\}|\\(?:quotedblbase|guilsingl(?:left|right)|ldots|allowbreak)\{\}"
    r"|\\numbered\{[0-9A-F]{4,6}\}|\$(?:\\[a-zA-Z]+|-)\$|\{[\[\]*]?\}|[^\\{}%#$&_^<>|\"`\[\]*\n\x00-\x1f\ud800-\udfff])*"
)


@given(st.text(st.characters(), max_size=60) | st.text("\\{}%#$&_^~[]*-',`\"<>|aZ1 \n", max_size=60))
def test_text_is_inert_whatever_it_is(recipe: SimpleNamespace, value: str) -> None:
    assert _INERT.fullmatch(recipe.latex.text(value))


@pytest.mark.parametrize(
    ("value", "latex"),
    [
        (r"\write18{x}", r"\textbackslash{}write18\{x\}"),
        ("100% #1 $x^2$ a&b_c", r"100\% \#1 \$x\textasciicircum{}2\$ a\&b\_c"),
        ("--- ''", "-{}-{}- '{}'"),
        ("β ≻ −1", r"$\beta$ $\succ$ $-$1"),
        ("\U0001f600", r"\numbered{1F600}"),
        ("e\u0301", "é"),
        ("\ud83d", r"\guilsinglleft{}U+D83D\guilsinglright{}"),
        ("\x00", r"\guilsinglleft{}U+0000\guilsinglright{}"),
    ],
)
def test_text_by_hand(recipe: SimpleNamespace, value: str, latex: str) -> None:
    assert recipe.latex.text(value) == latex


def test_a_long_table_may_break_and_a_short_one_not(recipe: SimpleNamespace) -> None:
    def shown(n: int) -> str:
        return recipe.latex.table(Table(title="T", columns=("", "x"), rows=tuple((f"[{i}]", 0.5) for i in range(n))))

    assert "tabular" in shown(3) and "longtable" not in shown(3) and "longtable" in shown(60)
    assert r"{[}0{]} & 0.500000 \\" in shown(3)


# --- what judges said


def test_win_lose_and_tie_are_the_tuned_models(recipe: SimpleNamespace, compared: Path) -> None:
    found = recipe.judged.read_judged(compared)
    said = {(n, x): found.word("human", n, x) for n in (1, 2) for x in "AB"}
    assert said == {(1, "A"): "win", (1, "B"): "lose", (2, "A"): "tie", (2, "B"): "win"}
    tex = recipe.judged.conclusions(found)
    assert r"1 & win & lose \\" in tex and r"2 & tie & win \\" in tex
    assert r"human & 2 & 1 & 1 & 0 & 62.5\%" in tex
    for sentence in json.loads((compared / "comparison.json").read_text())["conclusion"]:
        assert recipe.latex.text(sentence) in tex


def test_of_several_people_most_decide_and_no_verdict_is_a_dash(recipe: SimpleNamespace, tmp_path: Path) -> None:
    votes = [say(1, "A", o, rater=r) for o, r in ((0.0, "ann"), (0.0, "ben"), (1.0, "cy"))]
    votes += [say(1, "B", 0.0, rater="ann"), say(1, "B", 1.0, rater="ben", turned=True), say(2, "A", None)]
    folder = judged_folder(tmp_path / "x", [completions("sft"), completions("pref")], votes)
    found = recipe.judged.read_judged(folder)
    assert [found.word("human", *at) for at in ((1, "A"), (1, "B"), (2, "A"), (2, "B"))] == ["win", "tie", "–", "–"]
    assert "Judged by 3 people" in recipe.judged.conclusions(found)


def test_what_is_no_comparison_of_two(recipe: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smidgen view"):
        recipe.judged.read_judged(tmp_path)
    votes = [say(1, "A", 1.0)]
    three = judged_folder(tmp_path / "x", [completions(name) for name in ("sft", "pref", "third")], votes)
    with pytest.raises(UsageError, match="two models, got sft, pref, third"):
        recipe.judged.read_judged(three)


def test_names_of_models_and_judges_are_text_and_no_paths(
    recipe: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_latex(monkeypatch)
    rows = (Completed("p", ("x",)),)
    matches = matches_of([Completions(model=name, rows=rows) for name in ("../../up", r"\input{x}/up")])
    verdict = Verdict(judge="50%", number=1, letter="A", model_a="../../up", model_b=r"\input{x}/up", outcome=0.0)
    folder, out = tmp_path / "in", tmp_path / "a" / "b" / "out"
    write_matches(folder / "matches.jsonl", matches)
    write_verdicts(folder / "verdicts.jsonl", [verdict])
    write_json(folder / "comparison.json", {"seed": 0})
    given = ["--name", "L", "--matriculation", "1", "--out", str(out), "--completions", str(folder)]
    assert recipe.sheet.main(given) == 0
    assert [*tmp_path.rglob("*up.txt")] == [*out.glob("*up.txt")] and len([*out.glob("*up.txt")]) == 2
    tex = (out / "L_1_week5.tex").read_text()
    assert r"\input" not in tex and r"50\%" in tex


def test_sample_preferences_are_the_chat_judges_rubric(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "pref_data_completion_20samples.txt"
    one = "PROMPT {0}\nThe sea\nCHOSEN {0}\nrolls on, {0}\nREJECTED {0}\nok {0}\n\n"
    samples.write_text("".join(one.format(i) for i in range(1, 21)))
    files = sorted(map(str, compared.parent.glob("output_*.txt")))
    chat = ["--judge", "chat", "--samples", str(samples), "--teacher", "local", "--model", str(DEMO / "model")]
    assert main(["compare", *files, *chat, "--dry-run", "--out", str(tmp_path / "chat")]) == 0
    assert "20 sample preferences shown" in capsys.readouterr().out


# --- numbers


def test_the_sheets_numbers_are_the_default(recipe: SimpleNamespace, tmp_path: Path) -> None:
    code = recipe.sheet.main(["--name", "Lovelace", "--matriculation", "12", "--out", str(tmp_path / "out")])
    assert code == 0
    tex = (tmp_path / "out" / "Lovelace_12_week5.tex").read_text()
    at = [tex.index(f"section*{{E.{i}") for i in range(1, 6)]
    assert at == sorted(at)
    e1, e2, e3, e4, e5 = (tex[a:b] for a, b in zip(at, [*at[1:], None], strict=True))
    assert r"subpopulation 2 & 0.6667 & 0.5000 & 0.3333" in e1
    assert r"subpopulation 3 & 0.8808 & 0.9526 & 0.7311" in e1
    assert r"MaxMin & 0 & 1 & 0 & y2" in e2 and r"mean & 1.5000 & 1.2500 & 1.7500 & y3" in e2
    assert all(value in e3 for value in ("0.854355", "0.425557", "0.287682", "0.446287", "1.178655"))
    assert "RLHF lowers the odds of chosen against rejected, DPO raises them" in e4
    assert all(value in e5 for value in ("0.678867", "0.054785", "4.071844"))


def test_other_numbers_give_another_sheet(recipe: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("title: mine\nreward: {chosen: 2, rejected: 1}\n")
    given = ["--name", "L", "--matriculation", "1", "--out", str(tmp_path / "out")]
    assert recipe.sheet.main([*given, "--numbers", str(tmp_path / "mine.yaml")]) == 0
    tex = (tmp_path / "out" / "L_1_week5.tex").read_text()
    assert "0.313262" in tex and "E.1" not in tex and "E.5" not in tex
    assert recipe.sheet.main([*given, "--numbers", str(tmp_path / "none.yaml")]) == 2


# --- what is handed in


def without_latex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def test_names_contents_and_equal_bytes(
    recipe: SimpleNamespace,
    compared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without_latex(monkeypatch)
    zips = []
    for name in ("one", "two"):
        given = ["--name", "Łoś-Müller", "--matriculation", "1234567", "--out", str(tmp_path / name)]
        assert recipe.sheet.main([*given, "--completions", str(compared)]) == 0
        assert "neither pdflatex nor tectonic" in capsys.readouterr().out
        zips.append(tmp_path / name / "Łoś-Müller_1234567_week5.zip")
    assert zips[0].read_bytes() == zips[1].read_bytes()
    with zipfile.ZipFile(zips[0]) as archive:
        archive.extractall(tmp_path / "there")
    (only,) = (tmp_path / "there").iterdir()
    assert only.name == "Łoś-Müller_1234567_week5"
    names = {file.name for file in only.iterdir()}
    assert {f"{only.name}.tex", "llm_completion.py", "llm_summarization.py", "numbers.yaml"} <= names
    assert read_completions(only / "output_shakespeare_completions_pref.txt").rows == completions("pref").rows


def test_a_changed_sheet_is_kept_and_packed_by_hand_in(
    recipe: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_latex(monkeypatch)
    given = ["--name", "L", "--matriculation", "1", "--out", str(tmp_path)]
    assert [recipe.sheet.main(given), recipe.sheet.main(given)] == [0, 0]
    tex = tmp_path / "L_1_week5.tex"
    tex.write_text(tex.read_text().replace("Week 5", "My week 5"))
    assert recipe.sheet.main(given) == 2
    assert "got one that was changed" in capsys.readouterr().err
    (tmp_path / "L_1_week5.pdf").write_bytes(b"%PDF made elsewhere")
    assert recipe.hand_in.main([str(tmp_path)]) == 0
    assert "kept as it is" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "L_1_week5.zip") as archive:
        assert b"My week 5" in archive.read("L_1_week5/L_1_week5.tex")
        assert archive.read("L_1_week5/L_1_week5.pdf") == b"%PDF made elsewhere"


def test_more_than_a_megabyte_is_refused(
    recipe: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_latex(monkeypatch)
    (tmp_path / "L_1_week5.tex").write_text("x")
    (tmp_path / "large.bin").write_bytes(os.urandom(recipe.hand_in.LIMIT))
    with pytest.raises(InvalidData, match=r"at most 1,000,000 bytes, got 1,000,\d+"):
        recipe.hand_in.hand_in(tmp_path)
    (tmp_path / "large.bin").unlink()
    assert recipe.hand_in.hand_in(tmp_path)
    (tmp_path / "M_1_week5.tex").write_text("x")
    with pytest.raises(UsageError, match="got 2"):
        recipe.hand_in.hand_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "number"), [("../up", "1"), ("van der Berg", "1"), ("", "1"), ("L", "1/2"), ("L", "")]
)
def test_what_is_no_file_name(recipe: SimpleNamespace, name: str, number: str) -> None:
    with pytest.raises(UsageError, match="letters, digits and hyphens"):
        recipe.hand_in.sheet_stem(name, number)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("course-genai-w24/week4-phi-1.5-sft-shakespeare", "week4-phi-1.5-sft-shakespeare"),
        ("CarperAI/openai_summarize_tldr_sft", "week5-sft-tldr"),
        ("CarperAI/openai_summarize_tldr_ppo", "week5-ppo-tldr"),
        ("runs/week5-phi-1.5-pref-shakespeare/model", "week5-phi-1.5-pref-shakespeare"),
    ],
)
def test_models_have_the_sheets_names(recipe: SimpleNamespace, model: str, name: str) -> None:
    assert recipe.generating.sheet_name(model) == name


# --- with LaTeX, and from models on


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
@pytest.mark.parametrize("styled", [False, True])
def test_hostile_texts_come_out_on_paper_and_do_nothing(recipe: SimpleNamespace, tmp_path: Path, styled: bool) -> None:
    rows = tuple(Completed(f"p {i} {t}", (t, t)) for i, t in enumerate(HOSTILE))
    contenders = [Completions(model=name, rows=rows) for name in ("sft", "pref")]
    verdicts = [say(m.number, m.letter, 0.0) for m in matches_of(contenders)]
    out = tmp_path / "out"
    if styled:
        out.mkdir()
        # In place of the real one, which is the user's.
        (out / "neurips_2024.sty").write_text(
            "\\ProvidesPackage{neurips_2024}\\DeclareOption{preprint}{}\\DeclareOption{nonatbib}{}\\ProcessOptions\n"
            "\\RequirePackage{geometry}\\AtEndDocument{STYLED}\n"
        )
    folder = judged_folder(tmp_path / "x", contenders, verdicts)
    given = ["--name", "L", "--matriculation", "1", "--out", str(out), "--completions", str(folder)]
    assert recipe.sheet.main(given) == 0
    pdf = out / "L_1_week5.pdf"
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size < recipe.hand_in.LIMIT
    assert not list(tmp_path.rglob("owned*"))
    if shutil.which("pdftotext"):
        done = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True)
        said = " ".join(done.stdout.split())
        for text in (r"\input{/etc/passwd}", r"\write18{touch owned}", "100% of #1 costs $5 & a_b ^^41 ~", "[U+1F600]"):
            assert text in said
        assert "root:" not in said
        assert ("STYLED" in said) == styled


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_a_broken_tex_is_said_with_its_line(recipe: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "L_1_week5.tex").write_text("\\documentclass{article}\n\\begin{document}\n\\nosuch\n\\end{document}\n")
    with pytest.raises(InvalidData, match=r"L_1_week5.tex, got: .*:3: Undefined control sequence"):
        recipe.hand_in.hand_in(tmp_path)


@pytest.mark.slow
def test_the_whole_sheet_on_stand_ins(tmp_path: Path) -> None:
    (tmp_path / "input_shakespeare_prefixes.txt").write_text(PREFIXES)
    (tmp_path / "input_reddit_posts.txt").write_text(POSTS)
    pairs = (DEMO / "pairs.jsonl").read_text().splitlines(keepends=True)[:16]
    (tmp_path / "pref_data_completion.jsonl").write_text("".join(pairs))
    demo, tuned = str(DEMO / "model"), "runs/week5-pref/model"

    def run(script: str, *flags: str, model: str = "") -> str:
        env = {**os.environ, "HF_HUB_OFFLINE": "1"} | ({"MODEL_NAME": model} if model else {})
        command = [sys.executable, str(RECIPE / script), *flags]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("pref_training_completion.py", "--model", demo, "--out", "runs/week5-pref", "--steps", "2", "--lora-rank=2")
    for model in (demo, tuned):
        run("llm_completion.py", "--prompt-format", "blocks", "--max-new-tokens", "8", model=model)
        run("llm_summarization.py", "--model", model, "--max-new-tokens=8")
    for kind, letters in (("shakespeare_completions", 3), ("reddit_summaries", 1)):
        files = [tmp_path / f"output_{kind}_{name}.txt" for name in ("demo", "week5-pref")]
        assert [(len(one.rows), one.n_letters) for one in map(read_completions, files)] == [(2, letters)] * 2
        out = ["--judge", "longer", "--out", str(tmp_path / "runs" / kind)]
        assert main(["compare", *map(str, files), *out]) == 0
    parts = ("--completions", "runs/shakespeare_completions", "--summaries", "runs/reddit_summaries")
    said = run("sheet.py", "--name", "Lovelace", "--matriculation", "1234567", *parts)
    assert "hand_in/Lovelace_1234567_week5.zip" in said
    tex = (tmp_path / "hand_in" / "Lovelace_1234567_week5.tex").read_text()
    assert "The lamps are low, and yet" in tex and "It ate my beans." in tex
