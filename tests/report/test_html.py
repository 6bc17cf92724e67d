"""The report says what the artefacts say, runs nothing it should not, and is the same each time it is made."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from smidgen.errors import InvalidData, UsageError
from smidgen.report.html import write_report

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """A page as the tests look at it: elements, their attributes, and the text of scripts, cells and datas."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def certificate_of(folder: Path) -> dict:
    return json.loads((folder / "certificate.json").read_text(encoding="utf-8"))


def row_values(page_text: str, arm: str) -> list[float]:
    (row,) = re.findall(rf'<tr data-arm="{arm}".*?</tr>', page_text, re.DOTALL)
    return [float(value) for value in re.findall(r'<data value="([^"]+)"', row)]


def test_every_arm_shows_the_certificates_own_numbers(make_run):
    folder = make_run()
    text = write_report(folder).read_text(encoding="utf-8")
    scores = certificate_of(folder)["scores"]
    assert set(re.findall(r'<tr data-arm="(\w+)"', text)) == set(scores)
    for arm, score in scores.items():
        assert row_values(text, arm) == [score["mean"], score["low"], score["high"]]


def test_what_is_printed_is_the_value_rounded(make_run):
    text = write_report(make_run()).read_text(encoding="utf-8")
    shown = re.findall(r'<data value="(-?[\d.]+)">([^<]+)</data>', text)
    assert len(shown) > 60
    for value, printed in shown:
        number = float(printed.replace("−", "-").replace(",", ""))
        assert number == pytest.approx(float(value), abs=0.0005), (value, printed)


def test_claim_steps_sizes_and_counts_are_the_certificates(make_run):
    folder = make_run()
    path = write_report(folder)
    certificate, text = certificate_of(folder), path.read_text(encoding="utf-8")
    assert Page(path).texts["h1"] == [certificate["claim"]]
    for step in certificate["steps_tested"]:
        assert f'<data value="{step["difference"]["mean"]}">' in text
        assert f'<data value="{step["lower_bound"]}">' in text
    for key in ("subset_size", "full_size", "delta", "n_seeds", "n_harmful_prompts", "n_harmless_prompts"):
        assert f'<data value="{certificate[key]}">' in text
    for limit in certificate["limits"]:
        assert html.escape(limit) in text


@pytest.mark.parametrize(
    ("outcome", "label", "others"),
    [
        ("pass", "Shown to be enough", ("Not shown to be enough", "The benchmark cannot tell")),
        ("fail", "Not shown to be enough", ("The benchmark cannot tell",)),
        ("blind", "The benchmark cannot tell", ("Not shown to be enough",)),
    ],
)
def test_status_follows_the_certificate(make_run, outcome, label, others):
    title = Page(write_report(make_run(outcome=outcome))).texts["title"][0]
    assert title.startswith(label)
    assert not any(other in title for other in others)


@pytest.mark.parametrize(("outcome", "claimed"), [("pass", True), ("blind", False)])
def test_a_bound_is_read_as_the_claim_only_where_there_is_one(make_run, outcome, claimed):
    text = write_report(make_run(outcome=outcome)).read_text(encoding="utf-8")
    assert text.count("this size alone, one-sided") == 1
    assert ("one-sided; measured, not claimed" in text) is not claimed


def test_a_failed_certificate_says_which_step_and_why(make_run):
    text = write_report(make_run(outcome="fail")).read_text(encoding="utf-8")
    assert "250 pairs were not shown to keep up in the refusal score." in text
    assert "−0.291; it had to stay above −0.130" in text


def test_no_subset_size_at_all_is_still_a_report(make_run):
    folder = make_run(outcome="fail", subset_size=None, subset_arm=None, best_size=None)
    assert "Not shown to be enough" in write_report(folder).read_text(encoding="utf-8")


def test_hostile_text_is_inert_and_complete(make_run):
    plain, hostile = Page(write_report(make_run("a"))), Page(write_report(make_run("b", hostile=True)))
    for tag in ("script", "svg", "img", "table", "form", "iframe"):
        assert len(hostile.of(tag)) == len(plain.of(tag)), tag
    assert not [name for _, attributes in hostile.elements for name in attributes if name.startswith("on")]
    assert "owned" not in "".join(hostile.texts["script"])
    body = hostile.texts["body"][0]
    for text in ("<script>document.title='owned'</script>", "{{7*7}} {% for x in y %}", r"$\frac{1}{0}$", "日本語の文",
                 "עברית", "🧨👩‍👩‍👧‍👦", '"><svg onload=alert(1)> & &amp; <!-- -->', "a␀NUL"):  # fmt: skip
        assert text in body
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", body)


def test_hostile_names_cannot_leave_the_figure(make_run):
    name = "</svg><script>x</script>:a=$b$"
    steps = [{"budget": 62, "selector": name, "difference": {"mean": 0.0, "low": -0.1, "high": 0.1}, "passed": True}]
    page = Page(write_report(make_run(steps_tested=steps)))
    assert len(page.of("script")) == 1
    assert name in page.texts["body"][0]


def test_the_page_asks_for_nothing_from_outside(make_run):
    path = write_report(make_run())
    page = Page(path)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            if tag != "data" and name in attributes:
                assert attributes[name].startswith(("#", "data:")), (tag, attributes)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.\w+|@import|url\((?!#)", text)


def test_policy_allows_exactly_the_pages_own_style_and_script(make_run):
    page = Page(write_report(make_run()))
    (policy,) = [m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = page.texts[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any("style" in attributes for _, attributes in page.elements), "a style attribute would be blocked"


def test_equal_artefacts_give_equal_bytes(make_run):
    first, second = (write_report(make_run(name)) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    before = first.read_bytes()
    assert write_report(first.parent).read_bytes() == before


def test_ids_are_distinct_and_references_meet_one(make_run):
    page = Page(write_report(make_run()))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")}
    wanted |= {found for _, a in page.elements for found in re.findall(r"url\(#([^)]+)\)", " ".join(a.values()))}
    wanted |= {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    assert wanted <= set(ids)


def test_the_page_can_be_read_without_seeing_it(make_run):
    page = Page(write_report(make_run()))
    assert [len(page.of(tag)) for tag in ("main", "h1", "title")] == [1, 1, 1]
    assert page.of("html")[0]["lang"] == "en"
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.of("th"))
    for svg in page.of("svg"):
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and len(svg["aria-label"]) > 40)
    assert len(page.of("caption")) == len(page.of("table"))


@pytest.mark.parametrize(
    "missing",
    [
        ("run.json",),
        ("settings.yaml", "environment.json", "inputs.json"),
        ("study.sqlite",),
        ("features.parquet",),
        ("subset.csv",),
        ("runners_up.csv",),
        ("study.sqlite", "features.parquet", "subset.csv", "run.json", "settings.yaml"),
    ],
)
def test_missing_artefacts_shorten_the_report(make_run, missing):
    folder = make_run(leave_out=missing)
    text = write_report(folder).read_text(encoding="utf-8")
    assert row_values(text, "subset")[0] == certificate_of(folder)["scores"]["subset"]["mean"]


def test_missing_arms_are_left_out(make_run):
    scores = {arm: {"mean": 0.4, "low": 0.3, "high": 0.5} for arm in ("base", "full", "subset")}
    left_out = {"random_in_pool": "the pool is too small for <two> draws"}
    text = write_report(make_run(scores=scores, left_out=left_out)).read_text(encoding="utf-8")
    assert set(re.findall(r'<tr data-arm="(\w+)"', text)) == {"base", "full", "subset"}
    assert "the pool is too small for &lt;two&gt; draws" in text


def test_a_large_subset_is_cut_and_says_so(make_run):
    path = write_report(make_run(n_kept=1900))
    text = path.read_text(encoding="utf-8")
    assert text.count('class="pair"') == 500
    assert "The first 500 of 1,900 are here; all of them are in <code>subset.csv</code>" in text
    assert path.stat().st_size < 2_000_000


def test_every_kept_pair_is_there_with_its_reason(make_run):
    folder = make_run()
    text = write_report(folder).read_text(encoding="utf-8")
    assert text.count('class="pair"') == 62
    assert text.count("clear and unlike those before it") == 62


def test_every_pair_shows_its_reason_its_twin_and_its_metagradient(make_run):
    folder = make_run()
    text = write_report(folder).read_text(encoding="utf-8")
    kept = rows_of(folder / "subset.csv")
    items = re.findall(r'<li class="pair".*?</li>', text, re.DOTALL)
    assert len(items) == len(kept) == 62
    largest = max(abs(float(row["metagradient"])) for row in kept + rows_of(folder / "runners_up.csv"))
    for item, row in zip(items, kept, strict=True):
        shown = html.unescape(item)
        assert f"idx {row['twin_idx']}, alike {row['twin_similarity']}" in shown
        assert row["twin_prompt"] in shown and row["twin_reason"] in shown
        value = float(row["metagradient"])
        ((role, left, width),) = re.findall(r'<rect class="(\w+)" x="([\d.]+)%" width="([\d.]+)%"', item)
        assert role == ("helps" if value >= 0 else "hinders")
        assert float(width) == pytest.approx(50 * abs(value) / largest, abs=0.01)
        assert float(left) == pytest.approx(50 if value >= 0 else 50 - float(width), abs=0.02)
        assert f">{value:+.2g}</span>".replace("-", "−") in item
    assert len(re.findall(r'<rect class="(?:helps|hinders)"', text)) == 62 + 12


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_without_reasons_of_this_kind_still_shows_its_pairs(make_run):
    """As `smidgen select` or an earlier version wrote it, or as somebody edited it."""
    folder = make_run(leave_out=["runners_up.csv"])
    rows = rows_of(folder / "subset.csv")
    for row in rows:
        row["metagradient"] = {0: "", 1: "not a number", 2: "inf"}[int(row["rank"]) % 3]
        del row["twin_idx"]
    with (folder / "subset.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    text = write_report(folder).read_text(encoding="utf-8")
    assert text.count('class="pair"') == 62
    assert "What nearly made it" not in text and 'class="pull' not in text and 'class="twin"' not in text


def test_no_certificate_and_a_broken_one_are_told_apart(make_run):
    with pytest.raises(UsageError, match=r"expected a finished run at .*no certificate\.json"):
        write_report(make_run("a", leave_out=["certificate.json"]))
    folder = make_run("b")
    (folder / "certificate.json").write_text('{"claim": "x"}', encoding="utf-8")
    with pytest.raises(InvalidData, match="expected the key 'non_inferior'"):
        write_report(folder)
    (folder / "certificate.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidData, match="expected JSON"):
        write_report(folder)


def test_a_broken_study_file_is_named(make_run):
    folder = make_run()
    (folder / "study.sqlite").write_text("not a database, whatever its name says", encoding="utf-8")
    with pytest.raises(InvalidData, match=r"study\.sqlite"):
        write_report(folder)


def test_what_choosing_was_worth_stands_on_the_page(make_run):
    page = html.unescape(write_report(make_run()).read_text(encoding="utf-8"))
    assert "What choosing the pairs was worth" in page
    assert "random in the pool, size of the best" in page
