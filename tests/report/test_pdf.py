"""The report for handing in: true to the certificate, inert to any text, the same bytes for the same run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typst
import yaml
from tests.report.conftest import HOSTILE, build_run

from smidgen.cli import main
from smidgen.errors import InvalidData, UsageError
from smidgen.report.artefacts import read_run
from smidgen.report.pdf import TEMPLATE, Written, render_pdf, write_pdf
from smidgen.report.verdict import number, verdict
from smidgen.training.losses import loss

# Where everything must run, a missing reader is a failure.
needs_reader = pytest.mark.skipif(
    shutil.which("pdftotext") is None and "CI" not in os.environ, reason="reads the PDF with poppler's pdftotext"
)
FAMILIES = set(typst.Fonts().families())
needs_fonts = pytest.mark.skipif(
    not {"Noto Color Emoji"} <= FAMILIES or not any("CJK" in family for family in FAMILIES),
    reason="needs fonts for Chinese, Japanese, Korean and emoji",
)
TYPST = (
    '#eval("1+1")',
    '#read("report_style.typ")',
    "#panic()",
    "= Head",
    "*bold* _it_ @cohen1960 <label>",
    r"\ #pagebreak()",
)
SECTIONS = (
    "Motivation", "Method", "Score against number of pairs", "Baselines", "The certificate", "The subset",
    "Before and after", "Limits", "Settings", "References", "All kept pairs, and why",
)  # fmt: skip


class Report(NamedTuple):
    folder: Path
    written: Written

    @property
    def certificate(self) -> dict:
        return json.loads((self.folder / "certificate.json").read_text(encoding="utf-8"))

    @property
    def text(self) -> str:
        return text_of(self.written.path)


def report(folder: Path) -> Report:
    return Report(folder, write_pdf(folder))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(build_run(tmp_path_factory.mktemp("plain") / "run"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = build_run(
        tmp_path_factory.mktemp("hostile") / "run",
        hostile=True,
        claim=f"{TYPST[0]} $x^2$ \u202eclaim\x00 HALF end",
        patterns=f"{TYPST[1]}<script>",
        limits=[*TYPST[2:], "L" * 10_000],
        left_out={"random": "a\x1b[31m &amp; \\"},
        transfer={"objective": {"objective": "#x" * 90, "n_seeds": 3, "difference": {"mean": 0, "low": -1, "high": 1}}},
        steps_tested=[_step("</svg>\x00--><script>x" + "q" * 300)],
    )
    # Half a character has no UTF-8, but JSON can say it.
    path = folder / "certificate.json"
    path.write_text(path.read_text(encoding="utf-8").replace("HALF", r"\ud800"), encoding="utf-8")
    with (folder / "subset.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([7, "W" * 10_000, "\n" * 300 + "end", "Z" + "\u0301" * 900])
    return report(folder)


def _step(selector: str) -> dict:
    return {"budget": 62, "selector": selector, "difference": {"mean": 0.0, "low": -0.1, "high": 0.1}, "passed": True}


def text_of(path: Path) -> str:
    done = subprocess.run(["pdftotext", "-enc", "UTF-8", str(path), "-"], check=True, capture_output=True)
    return done.stdout.decode("utf-8")


def flat(text: str) -> str:
    """Without what the setting of lines adds and takes: spaces, hyphens, places to break."""
    return re.sub(r"[\s\u200b\u00ad\u2010-]", "", text)


def streams(path: Path) -> bytes:
    """Everything in the file, its compressed parts opened."""
    found = [path.read_bytes()]
    for part in re.findall(rb"stream\r?\n(.*?)endstream", found[0], re.DOTALL):
        try:
            found.append(zlib.decompress(part))
        except zlib.error:
            continue
    return b"\n".join(found)


@needs_reader
def test_it_says_what_the_certificate_says(plain):
    text = flat(plain.text)
    for wanted in (plain.certificate["claim"], *plain.certificate["limits"], plain.certificate["loss_statement"]):
        assert flat(wanted) in text
    for reason in verdict(read_run(plain.folder).certificate).reasons:
        assert flat(reason) in text


@needs_reader
def test_every_score_stands_in_it_with_its_interval(plain):
    text = flat(plain.text)
    assert len(plain.certificate["scores"]) > 8
    for score in plain.certificate["scores"].values():
        assert flat(f"{number(score['mean'])}[{number(score['low'])},{number(score['high'])}]") in text
    for step in plain.certificate["steps_tested"]:
        assert number(step["lower_bound"]) in text and number(step["difference"]["mean"]) in text


@needs_reader
def test_every_section_is_there_and_every_pair_with_its_reason(plain):
    text = plain.text
    for section in SECTIONS:
        assert re.search(rf"^(?:\d+\s+|A\s+)?{section}$", text, re.MULTILINE), section
    listing = text.split("Best first.")[1].split("What nearly made it")[0]
    assert flat(listing).count(flat("clear and unlike those before it")) == 62


@needs_reader
def test_nothing_claimed_is_a_true_document(tmp_path):
    found = report(build_run(tmp_path / "run", outcome="blind"))
    assert "The benchmark cannot tell" in found.text and "Shown to be enough" not in found.text
    assert flat(found.certificate["claim"]) in flat(found.text)


@needs_reader
def test_what_is_missing_shortens_it_and_is_said(plain, tmp_path):
    shutil.copy(plain.folder / "certificate.json", tmp_path)
    found = report(tmp_path)
    text = flat(found.text)
    for says in (
        "no completions.",
        "no kept pairs.",
        "no search trials to draw",
        "lacks what it takes to hold the subset",
    ):
        assert flat(says) in text
    assert flat(found.certificate["claim"]) in text


def test_a_certificate_without_a_size_or_arms_is_still_a_report(tmp_path):
    scores = {arm: {"mean": 0.4, "low": 0.3, "high": 0.5} for arm in ("base", "full")}
    bare: dict[str, Any] = {
        "scores": scores,
        "steps_tested": [],
        "assay": {},
        "second_endpoint": {},
        "detectors": {},
        "limits": [],
    }
    bare |= {"subset_size": None, "subset_arm": None, "best_size": None}
    folder = build_run(tmp_path / "run", outcome="fail", **bare)
    assert write_pdf(folder).path.stat().st_size > 10_000


def test_equal_artefacts_give_equal_bytes(tmp_path, plain):
    again = report(build_run(tmp_path / "elsewhere"))
    assert again.written.path.read_bytes() == plain.written.path.read_bytes()


def test_it_is_tagged_titled_and_in_a_language(plain):
    inside = streams(plain.written.path)
    assert b"<pdfuaid:part>1</pdfuaid:part>" in inside, "the typesetter checked it against PDF/UA, glyphs included"
    assert b"Shown to be enough: 62 of 2,000 pairs</rdf:li>" in inside
    assert b"/Lang" in inside and b"en-GB" in inside
    assert plain.written.path.stat().st_size < 3_000_000


@needs_reader
def test_hostile_text_is_there_and_does_nothing(plain, hostile):
    text = flat(hostile.text)
    for wanted in (*TYPST, "<script>document.title='owned'</script>", "{{7*7}} {% for x in y %}", r"$\frac{1}{0}$",
                   '"><svg onload=alert(1)> & &amp; <!-- -->', "‹U+202E›", "a‹U+0000›NUL", "‹U+D800›",
                   "‹U+001B›[31m"):  # fmt: skip
        assert flat(wanted) in text, wanted
    for section in SECTIONS:
        assert re.search(rf"^(?:\d+\s+|A\s+)?{section}$", hostile.text, re.MULTILINE), section


def test_hostile_text_adds_no_links_actions_or_headings(plain, hostile):
    inside, expected = streams(hostile.written.path), streams(plain.written.path)
    for name in (b"/URI", b"/JavaScript", b"/JS", b"/Launch", b"/EmbeddedFile", b"/S/H1", b"/S/Formula"):
        assert inside.count(name) == expected.count(name), name
    assert expected.count(b"/S/H1") == len(SECTIONS) + 1 and expected.count(b"/URI") > 0, "the contents' own, and links"


@needs_reader
def test_no_line_of_hostile_text_leaves_the_page(hostile):
    done = subprocess.run(
        ["pdftotext", "-bbox", str(hostile.written.path), "-"], check=True, capture_output=True, text=True
    )
    boxes = re.findall(r'<word xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)"', done.stdout)
    width, left, right = 595.3, 70.8, 595.3 - 70.8
    assert len(boxes) > 1000
    # Punctuation may hang a little into the margin.
    assert all(left - 6 <= float(x0) and float(x1) <= right + 6 for x0, _, x1, _ in boxes), width


@needs_fonts
def test_scripts_of_the_world_are_drawn_where_their_fonts_are(hostile):
    assert any("日本語" in text and "עברית" in text and "🧨" in text for text in HOSTILE)
    assert hostile.written.undrawn == {} and hostile.written.note == ""
    assert b"<pdfuaid:part>1</pdfuaid:part>" in streams(hostile.written.path)


@needs_reader
def test_characters_without_a_font_are_counted_and_said(hostile, tmp_path):
    document, undrawn = render_pdf(read_run(hostile.folder), system_fonts=False)
    assert undrawn["Chinese and Japanese"] > 0 and undrawn["emoji and symbols"] > 0
    assert not {"Hebrew", "Latin", "Greek"} & undrawn.keys(), "these are inside the typesetter"
    path = tmp_path / "report.pdf"
    path.write_bytes(document)
    first_page = flat(text_of(path).split("Motivation")[0])
    assert flat("Characters are missing here.") in first_page
    for script, n in undrawn.items():
        assert flat(f"{script} ({n:,})") in first_page
    assert "日" not in text_of(path) and "□" in text_of(path)
    assert "Chinese and Japanese" in Written(path, undrawn).note and "report.html" in Written(path, undrawn).note


@needs_reader
def test_the_method_tells_what_the_settings_say(tmp_path):
    names = re.findall(r"^  (\w+): \(", _template("report_method.typ").split("let rankings")[0], re.MULTILINE)
    assert {"dpo", "ipo", "simpo"} <= set(names) <= set(loss.names())
    every = " + ".join(f"0.5*{name}" for name in names)
    settings = {"loss": every, "selectors": ["contrast_cover"], "swap_rounds": 2, "refine_groups": 4, "delta": None}
    folder = build_run(tmp_path / "run", recipe={"learning_rate": 5e-5, "epochs": 2})
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    text = flat(report(folder).text)
    assert all(flat(f"weighed 0.5, is {name}") in text for name in names)
    for says in (
        "metagradients, the",
        "delta debugging",
        "a third of what full data",
        "learning rate 5e-05 and epochs 2",
    ):
        assert flat(says) in text
    (folder / "settings.yaml").write_text("loss: 'exo:beta=0.2 + 0.1*nll'\nswap_rounds: 0\n", encoding="utf-8")
    text = flat(report(folder).text)
    assert flat("The loss of a pair is exo:beta=0.2 + 0.1*nll.") in text and "metagradients,the" not in text


def test_every_citation_has_its_entry_and_every_entry_a_use():
    templates = "".join(_template(name) for name in TEMPLATE if name.endswith(".typ"))
    cited = set(re.findall(r"[@<](\w+[12]\d{3})", templates))
    assert cited == set(yaml.safe_load(_template("references.yml")))


def _template(name: str) -> str:
    return files("smidgen.report").joinpath(name).read_text(encoding="utf-8")


def test_a_run_that_has_not_ended_or_is_broken_is_told(tmp_path):
    with pytest.raises(UsageError, match="expected a finished run"):
        write_pdf(tmp_path)
    folder = build_run(tmp_path / "run")
    (folder / "certificate.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidData, match="expected a JSON object"):
        write_pdf(folder)


def test_the_command_writes_the_page_and_the_document(plain, capsys):
    before = plain.written.path.read_bytes()
    plain.written.path.unlink()
    assert main(["report", str(plain.folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    page, document = plain.folder / "report.html", plain.folder / "report.pdf"
    assert said == {"report": str(page), "pdf": str(document), "undrawn": {}}
    assert document.read_bytes() == before, "made from the files alone, again"
    assert page.is_file()
