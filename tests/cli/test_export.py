"""`smidgen export`: from pairs and from runs, never over other work, with the exit codes of the other commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from smidgen.cli import main
from smidgen.data.prepare import prepare_pairs
from smidgen.data.tables import write_subset
from smidgen.pairs import Message, PreferencePair, messages_from, plain_pair

Run = Callable[..., tuple[int, str, str]]
ROWS = [{"prompt": f"Question {i}?", "chosen": f"Good {i}.", "rejected": f"Bad {i}.", "kind": "x"} for i in range(5)]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def call(*argv: object) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", ["trl", "llama_factory", "axolotl", "openrlhf", "huggingface"])
def test_pairs_are_written_and_read_back(run: Run, format: str) -> None:
    code, out, _ = run("--json", "export", "pairs.jsonl", "--format", format, "--out", "out", "--license", "mit")
    found = json.loads(out)
    assert code == 0
    assert (found["pairs"], found["left_out"], found["pushed_to"]) == (5, {}, None)
    assert found["files"] == {
        path: len(content) for path, content in contents(Path("out")).items() if path in found["files"]
    }
    assert {*found["files"], "run.json", "settings.yaml"} == contents(Path("out")).keys()
    assert list(prepare_pairs("out").pairs) == list(prepare_pairs("pairs.jsonl").pairs)
    before = contents(Path("out"))
    assert run("export", "pairs.jsonl", "--format", format, "--out", "out", "--license", "mit")[0] == 0
    assert contents(Path("out")) == before


def test_rows_left_out_are_counted_and_listed(run: Run) -> None:
    with Path("pairs.jsonl").open("a") as file:
        file.write('{"prompt": "q", "chosen": null, "rejected": "b"}\n')
        system = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
        file.write(json.dumps({"prompt": system, "chosen": "a", "rejected": "b"}) + "\n")
    code, out, _ = run("export", "pairs.jsonl", "--format", "trl:template=verbatim", "--out", "out")
    assert code == 4
    assert "1 null_field" in out and "1 not_expressible" in out
    rows = [json.loads(line) for line in Path("out/quarantine.jsonl").read_text().splitlines()]
    assert [(row["idx"], row["reason"]) for row in rows] == [(5, "null_field"), (6, "not_expressible")]
    assert len(prepare_pairs("out").pairs) == 5


def test_an_exports_settings_make_the_same_export(run: Run) -> None:
    assert run("export", "pairs.jsonl", "--format", "trl", "--out", "out")[0] == 0
    assert run("export", "--config", "out/settings.yaml", "--out", "again")[0] == 0
    assert Path("again/train.jsonl").read_bytes() == Path("out/train.jsonl").read_bytes()


def test_a_dry_run_writes_nothing(run: Run) -> None:
    code, out, _ = run("export", "pairs.jsonl", "--format", "trl", "--out", "out", "--dry-run")
    assert code == 0
    assert "5 pairs as trl" in out and "dry run: nothing written" in out
    assert not Path("out").exists()


@pytest.mark.parametrize("change", [("--format", "axolotl"), ("--license", "mit"), ("--no-meta",)])
def test_other_work_is_never_overwritten(run: Run, change: tuple[str, ...]) -> None:
    command = ["export", "pairs.jsonl", "--format", "trl", "--out", "out"]
    assert run(*command)[0] == 0
    before = contents(Path("out"))
    own = command[:2] + command[4:] if change[0] == "--format" else command
    code, _, err = run(*own, *change)
    assert code == 2
    assert "holds a run with other" in err
    assert contents(Path("out")) == before
    Path("own").mkdir()
    Path("own/README.md").write_text("mine")
    code, _, err = run(*command[:-1], "own")
    assert (code, Path("own/README.md").read_text()) == (2, "mine")


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["pairs.jsonl", "--format", "csv"], 2, "unknown format 'csv'; expected one of: axolotl"),
        (["pairs.jsonl", "--format", "trl:template=chat"], 2, "leave template out"),
        (["pairs.jsonl", "--format", "trl", "--license", "My own"], 2, "licence's identifier"),
        (["pairs.jsonl", "--format", "trl", "--push-to", "me"], 2, "expected --push-to owner/name"),
        (["pairs.jsonl", "--format", "trl", "--push-to", "me/pairs"], 2, "HF_HUB_OFFLINE"),
        (["pairs.jsonl", "--format", "trl", "--public"], 2, "expected --push-to beside --public"),
        (["missing.jsonl", "--format", "trl"], 2, "expected a file, a folder, or a hub dataset"),
        (["empty.jsonl", "--format", "trl"], 3, "expected at least one record, got an empty file"),
        (["unknown.jsonl", "--format", "trl"], 3, "no chosen and no rejected among ['query', 'better']"),
        (["unfinished", "--format", "trl"], 2, "let the run end first"),
        (["pairs.jsonl"], 2, "--format"),
    ],
)
def test_what_cannot_be_done_says_why_and_leaves_nothing(run: Run, argv: list[str], code: int, message: str) -> None:
    Path("empty.jsonl").touch()
    Path("unknown.jsonl").write_text('{"query": "q", "better": "a"}\n')
    Path("unfinished").mkdir()
    Path("unfinished/study.sqlite").touch()
    found, out, err = run("export", *argv, "--out", "out")
    assert (found, out) == (code, "")
    assert message in err
    assert not Path("out").exists()


CERTIFICATE: dict[str, Any] = {
    "claim": "3 of 5 pairs: smallest found; non-inferior to full data at δ = 0.05 with 95 % confidence.",
    "non_inferior": True,
    "subset_size": 3,
    "full_size": 5,
    "subset_arm": "contrast",
    "delta": 0.05,
    "confidence": 0.95,
    "n_harmful_prompts": 100,
    "n_harmless_prompts": 120,
    "n_seeds": 2,
    "seeds": [11, 12],
    "scores": {},
    "limits": ["It is <b>never</b> the smallest."],
}


def finished_run(folder: Path, *, certificate: bool = True) -> list[PreferencePair]:
    """What of a run an export reads: its subset, with a conversation in it, and what stands beside."""
    prompt = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "So?"))
    pairs = [
        plain_pair(9, "=1+1", "+Yes\r\nor so", "@No", source="data.jsonl", source_row=9),
        plain_pair(2, "Hi", "Yes.", "No.", source="data.jsonl", source_row=2),
        PreferencePair(
            idx=4,
            prompt=prompt,
            chosen=messages_from("A", "assistant"),
            rejected=messages_from("B", "assistant"),
            source="data.jsonl",
            source_row=4,
        ),
    ]
    columns = {
        "rank": [1, 2, 3],
        "reason": ["kept for 1", "kept for 2", "kept"],
        "contrast": [0.25, 1.0, None],
        "chosen_refuses": [True, False, True],
        "source": [pair.source for pair in pairs],
        "source_row": [pair.source_row for pair in pairs],
    }
    write_subset(folder, pairs, columns)
    (folder / "settings.yaml").write_text(
        "pairs: [/home/me/secret/data.jsonl]\nselector: contrast\nbudget: 3\nseed: 7\n"
    )
    if certificate:
        (folder / "certificate.json").write_text(json.dumps(CERTIFICATE))
    return pairs


def test_a_runs_subset_comes_with_its_claim_and_its_reasons(run: Run) -> None:
    pairs = finished_run(Path("mine"))
    code, _, err = run("export", "mine", "--format", "huggingface", "--out", "out")
    assert (code, err) == (0, "")
    found = prepare_pairs("out").pairs
    own = [(p.idx, p.prompt, p.chosen, p.rejected, p.source, p.source_row) for p in found]
    assert own == [(p.idx, p.prompt, p.chosen, p.rejected, p.source, p.source_row) for p in pairs]
    first = {"rank": 1, "reason": "kept for 1", "contrast": 0.25, "chosen_refuses": True}
    assert [p.meta for p in found] == [
        first,
        {"rank": 2, "reason": "kept for 2", "contrast": 1.0, "chosen_refuses": False},
        {"rank": 3, "reason": "kept", "contrast": None, "chosen_refuses": True},
    ]
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert CERTIFICATE["claim"] in card
    for fact in ("| δ | 0.05 |", "| seeds | 11, 12 |", "| confidence | 95% |", "100 + 120", "`data.jsonl`"):
        assert fact in card
    assert "secret" not in card
    assert "<b>" not in card
    assert "licence: not stated" in card.lower()


def test_a_selection_without_a_study_says_so(run: Run) -> None:
    finished_run(Path("mine"), certificate=False)
    assert run("export", "mine", "--format", "trl", "--out", "out")[0] == 0
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "No study has tested whether they are enough" in card
    assert "| selector | contrast |" in card
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["size_categories"] == ["n<1K"]


def test_every_format_is_in_the_schema(run: Run) -> None:
    from smidgen.data.export import export_format

    found = json.loads(run("settings", "schema", "format")[1])
    assert set(found) == set(export_format.names())
    assert all(setting["description"] for schema in found.values() for setting in schema["properties"].values())


PAGE = (Path(__file__).parents[2] / "docs" / "interoperate.md").read_text(encoding="utf-8")


def test_the_page_says_what_is_so(run: Run) -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    specs = [(found[0], row[2]) for row in rows if (found := re.findall(r"`([a-z_]+(?::\S+)?)`", row[1]))]
    assert len(specs) == 7
    for i, (spec, files) in enumerate(specs):
        assert run("export", "pairs.jsonl", "--format", spec, "--out", f"table/{i}")[0] == 0
        written = contents(Path(f"table/{i}")).keys() - {"README.md", "run.json", "settings.yaml"}
        assert written == set(re.findall(r"`([^`]+)`", files)) or files.strip() == "the same"
