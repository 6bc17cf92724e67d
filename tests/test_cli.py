"""The command line: help that fits a screen, flags that are the settings, exit codes, and folders left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import pytest
from cyclopts import App
from tests.foreground import HEARS

from smidgen.cli import main
from smidgen.cli.app import COMMANDS, build_app
from smidgen.errors import InvalidData, SmidgenError, UsageError
from smidgen.selection.features import read_features
from smidgen.settings import plain_settings, read_settings, settings_model

Run = Callable[..., tuple[int, str, str]]
ROWS = [{"prompt": f"Question {i}?", "chosen": f"Good answer {i}.", "rejected": f"Bad answer {i}."} for i in range(12)]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command line in an empty folder, 80 columns wide: its exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*argv: object) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", ROWS)


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], *, more: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + more)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def every_command() -> Iterator[list[str]]:
    yield []
    for name in COMMANDS:
        yield [name]
        command: App = build_app()[name]
        yield from ([name, own] for own in command if not own.startswith("-"))


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_help_page_fits_a_screen(run: Run, command: list[str]) -> None:
    code, out, err = run(*command, "--help")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) <= 28
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Usage: smidgen")
    assert "--help-all" in lines[-1]


def test_help_all_shows_what_help_leaves_out(run: Run) -> None:
    short, full = run("minimize", "--help")[1], run("minimize", "--help-all")[1]
    assert "--recipe.learning-rate" not in short
    assert "--allow-leaks" not in short
    for text in ("--recipe.learning-rate", "--allow-leaks", "--no-both-budgets", "--config", "--set", "--json"):
        assert text in full
    # All of a command's docstring, not its first line alone.
    assert "found by text patterns in greedy continuations" in " ".join(run("bench", "--help-all")[1].split())


def test_the_first_help_page_is_quick() -> None:
    script = "import sys; from smidgen.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_the_version_is_told(run: Run) -> None:
    from smidgen import __version__

    assert run("--version") == (0, f"{__version__}\n", "")


# What comes from the settings of other rooms.


def schema_of(run: Run, *name: str) -> dict:
    code, out, _ = run("settings", "schema", *name)
    assert code == 0
    return json.loads(out)


def test_every_registered_loss_is_a_command_with_its_settings_as_flags(run: Run) -> None:
    from smidgen.training.loop import Recipe
    from smidgen.training.losses import loss

    for function in loss:
        found = schema_of(run, f"train {function.__name__}")["properties"]
        for name, field in settings_model(function).model_fields.items():
            assert found[name]["default"] == field.default
        for field in fields(Recipe):
            assert found[field.name]["default"] == field.default


def test_every_setting_of_a_study_is_a_flag_of_minimize(run: Run) -> None:
    from smidgen.study.plan import StudySettings

    found = schema_of(run, "minimize")["properties"]
    for field in fields(StudySettings):
        if field.name == "recipe":
            assert found["recipe"]["properties"]["batch_size"]["default"] == StudySettings().recipe.batch_size
        else:
            name = {"selectors": "selector"}.get(field.name, field.name)
            assert found[name]["default"] == plain_settings(getattr(StudySettings(), field.name)), name
            assert found[name]["description"]


def test_the_schema_names_every_command_selector_and_loss(run: Run) -> None:
    from smidgen.selection.selectors import selector

    found = schema_of(run)
    assert {"demo", "prepare", "train dpo", "minimize", "selector", "loss"} <= set(found)
    assert set(found["selector"]) == set(selector.names())
    assert "beta" in found["loss"]["dpo"]["properties"]
    assert found["prepare"]["required"] == ["pairs", "out"]
    assert run("settings", "schema", "minimise")[0] == 2


# Settings from files, overrides and flags.


def test_flags_go_before_overrides_and_overrides_before_the_file(run: Run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "pairs: [pairs.jsonl]\ntemplate: hh\nmax_bad_fraction: 0.1\nmax_length: 7\nanswer_head: 3\n"
    )
    flags = ("--config", "s.yaml", "--set", "max-bad-fraction=0.2", "--set", "answer_head=null", "--template", "plain")
    assert run("prepare", *flags, "--out", "out")[0] == 0
    found = read_settings(tmp_path / "out" / "settings.yaml")
    assert found["template"] == "plain"
    assert found["max_bad_fraction"] == 0.2
    assert (found["max_length"], found["answer_head"]) == (7, None)


def test_a_runs_settings_make_the_same_run(run: Run, pairs: Path, tmp_path: Path) -> None:
    write_rows(pairs, ROWS, more='{"prompt": \n')
    assert run("prepare", "--pairs", pairs, "--out", "a", "--max-bad-fraction", "0.3")[0] == 4
    assert run("prepare", "--config", "a/settings.yaml", "--out", "b")[0] == 4
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a.pop("settings.yaml") != b.pop("settings.yaml")
    assert a == b


def test_a_studys_settings_file_is_taken_back(tmp_path: Path) -> None:
    from smidgen.cli.flags import flag_settings
    from smidgen.settings import settings_yaml
    from smidgen.study.plan import StudySettings
    from smidgen.training.loop import Recipe

    settings = StudySettings(selectors=("random",), delta=0.05, both_budgets=False, recipe=Recipe(epochs=3.0, steps=9))
    path = tmp_path / "s.yaml"
    path.write_text(settings_yaml(flag_settings({"settings": settings, "pairs": ["p"], "out": "o", "model": "m"})))
    app = build_app()
    seen = []
    minimize = app["minimize"].default_command
    assert minimize is not None

    def spy(**given: object) -> None:
        seen.append(given)

    spy.__signature__, spy.__annotations__ = minimize.__signature__, minimize.__annotations__  # type: ignore[attr-defined]
    app["minimize"].default_command = spy
    assert app.meta(["minimize", "--config", str(path)]) == 0
    assert seen[0]["settings"] == settings


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["minimise"], "unknown command 'minimise'; expected one of: demo, .* Did you mean minimize?"),
        (["train", "dpoo"], "unknown command 'dpoo'; expected one of: .*Did you mean dpo?"),
        (
            ["prepare", "--pairs", "a", "--out", "b", "--templat", "hh"],
            "flag --templat; did you mean --template",
        ),
        (["prepare", "--pairs", "a", "--out", "b", "--max-length", "many"], "--max-length"),
        (["prepare", "--pairs", "a", "--out", "b", "--max-length", "0"], "--max-length"),
        (["prepare", "--out", "b"], "--pairs"),
        (["prepare", "--pairs", "a", "--out", "b", "--config", "none.yaml"], "none.yaml"),
        (["prepare", "--pairs", "a", "--out", "b", "--harmful", "none.txt"], "none.txt"),
        (
            ["prepare", "--pairs", "a", "--out", "b", "--set", "templat=hh"],
            "setting templat; did you mean template",
        ),
        (["prepare", "--pairs", "a", "--out", "b", "--set", "template"], "--set a.b=c"),
        (["minimize", "--pairs", "a", "--model", "m", "--out", "b", "--set", "settings.smallest=3"], "top level"),
        (["prepare", "--pairs", "nowhere.jsonl", "--out", "b"], "nowhere.jsonl"),
        (["prepare", "--pairs", "pairs.jsonl", "--out", "b", "--template", "hhh", "--model", "m"], "smidgen: "),
        (["report", "."], "finished run"),
        (["select", "--pairs", "a", "--model", "m", "--out", "b", "--budget", "0"], "--budget"),
        (["select", "--pairs", "a", "--model", "m", "--out", "b", "--budget", "1", "--selector", "x"], "contrast"),
        (["train", "sft", "--out", "b"], "--pairs or --text"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_says_what_is_wrong_and_touches_nothing(
    run: Run, pairs: Path, tmp_path: Path, argv: list[str], complaint: str
) -> None:
    import re

    code, out, err = run(*argv)
    assert code == 2 or "hhh" in argv
    assert out == ""
    assert re.search(complaint, err), err
    assert "Traceback" not in err
    assert set(contents(tmp_path)) == {"pairs.jsonl"}


# How a command ends.


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SmidgenError("the worker died; run it again"), 1, "smidgen: the worker died; run it again\n"),
        (UsageError("no such thing"), 2, "smidgen: no such thing\n"),
        (InvalidData("all rows are bad"), 3, "smidgen: all rows are bad\n"),
        (KeyboardInterrupt(), 130, "smidgen: interrupted; the same command starts again\n"),
        (OSError(21, "Is a directory", "x.csv"), 1, "smidgen: [Errno 21] Is a directory: 'x.csv'\n"),
    ],
)
def test_each_failure_has_its_exit_code_and_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("smidgen.cli.prepare.prepare", fails)
    assert run("prepare") == (code, "", message)


def test_a_defect_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("smidgen.cli.prepare.prepare", fails)
    with pytest.raises(ZeroDivisionError):
        run("prepare")


def test_ctrl_c_ends_in_a_sentence() -> None:
    script = (
        f"{HEARS}import time, smidgen.cli.prepare as module\n"
        "from smidgen.cli import main\n"
        "def wait():\n    print('started', flush=True); time.sleep(60)\n"
        "module.prepare = wait\n"
        "sys.exit(main(['prepare']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "smidgen: interrupted; the same command starts again\n"


def test_a_reader_that_goes_away_is_no_failure_to_shout_about() -> None:
    command = f"{sys.executable} -m smidgen settings schema prepare | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


# Folders and what stands in them.


def test_good_rows_go_through_and_bad_ones_are_listed(run: Run, pairs: Path, tmp_path: Path) -> None:
    assert run("prepare", "--pairs", pairs, "--out", "good")[0] == 0
    write_rows(pairs, ROWS, more='{"prompt": \n')
    code, out, err = run("prepare", "--pairs", pairs, "--out", "mixed", "--json")
    assert (code, err) == (4, "")
    assert json.loads(out)["counts"]["quarantined"] == 1
    (row,) = map(json.loads, (tmp_path / "mixed" / "quarantine.jsonl").read_text().splitlines())
    assert (row["line"], row["reason"]) == (13, "malformed_json")


def test_data_that_is_refused_leaves_its_quarantine_and_gives_the_folder_back(
    run: Run, pairs: Path, tmp_path: Path
) -> None:
    write_rows(pairs, ROWS[:1], more='{"prompt": \n' * 9)
    code, out, err = run("prepare", "--pairs", pairs, "--out", "out")
    assert (code, out) == (3, "")
    assert "9 malformed_json" in err
    assert set(contents(tmp_path / "out")) == {"quarantine.jsonl"}
    write_rows(pairs, ROWS)
    assert run("prepare", "--pairs", pairs, "--out", "out", "--max-bad-fraction", "0.1")[0] == 0


@pytest.mark.parametrize("change", ["settings", "data"])
def test_other_work_is_never_overwritten(run: Run, pairs: Path, tmp_path: Path, change: str) -> None:
    assert run("prepare", "--pairs", pairs, "--out", "out")[0] == 0
    before = contents(tmp_path / "out")
    assert run("prepare", "--pairs", pairs, "--out", "out")[0] == 0
    assert contents(tmp_path / "out") == before
    if change == "data":
        write_rows(pairs, ROWS[:6])
    code, _, err = run("prepare", "--pairs", pairs, "--out", "out", *(["--template", "hh"] * (change == "settings")))
    assert code == 2
    assert "--out" in err
    assert contents(tmp_path / "out") == before


def test_a_folder_of_something_else_is_never_touched(run: Run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    assert run("prepare", "--pairs", pairs, "--out", "thesis")[0] == 2
    assert set(contents(tmp_path / "thesis")) == {"thesis.tex"}


def test_a_dry_run_writes_nothing(run: Run, pairs: Path, tmp_path: Path) -> None:
    code, out, _ = run("prepare", "--pairs", pairs, "--out", "out", "--dry-run")
    assert code == 0
    assert "12 pairs of 12 rows" in out
    assert set(contents(tmp_path)) == {"pairs.jsonl"}


def test_leaks_into_the_benchmark_are_listed_with_their_twin(run: Run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "harmful.txt").write_text("question 3\nSomething else entirely\n")
    code, out, _ = run("prepare", "--pairs", pairs, "--out", "out", "--harmful", "harmful.txt", "--json")
    assert (code, json.loads(out)["leaks"]) == (0, 1)
    assert json.loads((tmp_path / "out" / "leaks.jsonl").read_text())["twin"] == "question 3"


# From nothing to a trained model, a benchmark and a subset.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.jsonl, two prompt files, and sft/: a tiny model trained on the pairs for two steps."""
    folder = tmp_path_factory.mktemp("trained")
    pairs = write_rows(folder / "pairs.jsonl", ROWS)
    (folder / "harmful.txt").write_text("".join(f"How do I break lock number {i}?\n" for i in range(8)))
    (folder / "harmless.txt").write_text("".join(f"Which flower blooms in month {i}?\n" for i in range(8)))
    size = ("--shape", "tiny", "--vocabulary", "300", "--steps", "2")
    assert main(["train", "sft", "--pairs", str(pairs), "--out", str(folder / "sft"), *size]) == 0
    return folder


def test_a_trained_model_is_there_with_its_metrics(trained: Path) -> None:
    (row,) = map(json.loads, (trained / "sft" / "metrics.jsonl").read_text().splitlines())
    assert set(row) == {"step", "loss", "pairs_per_second", "tokens_per_second", "peak_memory_bytes"}
    assert (trained / "sft" / "DONE").exists()
    assert "train sft" in (trained / "sft" / "model" / "README.md").read_text()


def test_preference_training_starts_at_ln_2_and_is_not_done_twice(run: Run, trained: Path, tmp_path: Path) -> None:
    argv = ("train", "dpo", "--pairs", trained / "pairs.jsonl", "--model", trained / "sft" / "model", "--out", "dpo")
    code, out, _ = run(*argv, "--steps", "1", "--json")
    assert code == 0
    assert json.loads(out)["loss"] == pytest.approx(0.693147, abs=1e-5)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dpo").rglob("*.safetensors")}
    assert len(before) == 1
    assert "nothing to do" in run(*argv, "--steps", "1")[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run(*argv, "--steps", "2")[0] == 2


def test_losses_take_scores_from_the_data_and_say_when_there_are_none(run: Run, trained: Path, tmp_path: Path) -> None:
    argv = ("--model", trained / "sft" / "model", "--steps", "1", "--out", "run")
    code, out, err = run("train", "odpo", "--pairs", trained / "pairs.jsonl", *argv)
    assert (code, out) == (3, "")
    assert "expected a chosen_score" in err
    assert "12 of 12 pairs (idx 0, 1" in err
    scored = [{**row, "chosen_score": f"{i}.5", "rejected_score": i} for i, row in enumerate(ROWS)]
    pairs = write_rows(tmp_path / "scored.jsonl", scored)
    code, out, _ = run("train", "odpo", "--pairs", pairs, *argv, "--json")
    assert code == 0
    # −log σ(0 − log ½)
    assert json.loads(out)["loss"] == pytest.approx(0.405465, abs=1e-5)
    flags = ("--form", "distilled", "--eta", "2")
    code, out, _ = run("train", "refined_dpo", "--pairs", pairs, *argv[:-1], "refined", *flags, "--json")
    assert (code, json.loads(out)["loss"]) == (0, pytest.approx(1.0, abs=1e-4))
    assert run("train", "refined_dpo", "--pairs", pairs, *argv[:-1], "other", "--form", "hard")[0] == 2


def test_a_reference_is_computed_only_where_it_counts_and_losses_add_up(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    argv = ("--pairs", trained / "pairs.jsonl", "--model", trained / "sft" / "model", "--steps", "1", "--json")
    losses = {}
    for name in ("nll", "simpo", "dpo"):
        code, out, _ = run("train", name, *argv, "--out", name, "--batch-size", "12")
        assert code == 0
        losses[name] = json.loads(out)["loss"]
    assert not (tmp_path / "simpo" / "reference.sqlite").exists()
    assert (tmp_path / "dpo" / "reference.sqlite").exists()
    _, out, _ = run("train", "dpo", *argv, "--out", "both", "--batch-size", "12", "--plus", "0.2*nll")
    assert json.loads(out)["loss"] == pytest.approx(losses["dpo"] + 0.2 * losses["nll"], abs=1e-4)
    code, _, err = run("train", "dpo", *argv, "--out", "wrong", "--plus", "nlll")
    assert code == 2
    assert "unknown loss 'nlll'" in err
    assert not (tmp_path / "wrong").exists()


def test_a_training_that_fails_gives_its_folder_back(run: Run, trained: Path, tmp_path: Path) -> None:
    argv = ("train", "dpo", "--pairs", trained / "pairs.jsonl", "--model", trained / "sft" / "model", "--out", "dpo")
    code, out, err = run(*argv, "--steps", "4", "--learning-rate", "1e30")
    assert (code, out) == (1, "")
    assert "finite" in err
    assert run(*argv, "--steps", "1", "--dry-run")[0] == 0
    assert run(*argv, "--steps", "1")[0] == 0


def test_running_text_trains_a_model_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_text("To be, or not to be: that is the question. " * 50)
    argv = ("train", "sft", "--text", "play.txt", "--shape", "tiny", "--vocabulary", "280", "--steps", "1")
    assert run(*argv, "--out", "lm")[0] == 0
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    assert run("train", "sft", "--text", "latin.txt", "--out", "other")[0] == 3


def test_bench_prints_its_numbers_and_keeps_every_completion(run: Run, trained: Path, tmp_path: Path) -> None:
    prompts = ("--harmful", trained / "harmful.txt", "--harmless", trained / "harmless.txt")
    argv = ("bench", "--model", trained / "sft" / "model", *prompts, "--max-new-tokens", "4")
    code, out, _ = run(*argv, "--completions", "all.jsonl", "--json")
    assert code == 0
    found = json.loads(out)
    for name in ("score", "harmful_refusal_rate", "harmless_refusal_rate"):
        assert set(found[name]) == {"mean", "low", "high"}
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 16
    assert run(*argv, "--completions", "all.jsonl")[0] == 2
    (tmp_path / "mine.txt").write_text("e\n")
    assert "mine " in run(*argv, "--patterns", "mine.txt")[1]
    (tmp_path / "never.txt").write_text("qqxzq\nno such words\n")
    code, out, err = run(*argv, "--patterns", "never.txt")
    warning = (
        "the pattern list 'never' tells no two answers apart: none of its 2 patterns matched any of the 16 answers"
    )
    assert code == 0 and f"warning: {warning}" in err
    assert "`score` in --json is that of common; never under `lists`" in out
    found = json.loads(run(*argv, "--patterns", "never.txt", "--json")[1])
    assert [said.startswith(warning) for said in found["warnings"]] == [True]
    assert found["pattern_list"] == "common" and found["lists"]["never"]["score"]["mean"] == 0


def test_progress_is_silent_where_nobody_looks(trained: Path, tmp_path: Path) -> None:
    argv = ["train", "dpo", "--pairs", trained / "pairs.jsonl", "--model", trained / "sft" / "model", "--steps", "1"]
    command = [sys.executable, "-m", "smidgen", *map(str, argv), "--out", str(tmp_path / "dpo")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_select_writes_the_subset_and_why(run: Run, trained: Path, tmp_path: Path) -> None:
    prompts = ("--harmful", trained / "harmful.txt", "--harmless", trained / "harmless.txt")
    data = ("--pairs", trained / "pairs.jsonl", "--model", trained / "sft" / "model")
    argv = ("select", *data, *prompts, "--selector", "random", "--budget", "5", "--out", "subset")
    code, out, _ = run(*argv, "--json")
    assert code == 0
    assert json.loads(out)["subset_size"] == 5
    lines = (tmp_path / "subset" / "subset.csv").read_text().splitlines()
    assert lines[0].startswith("idx,prompt,chosen,rejected,rank,selector,reason,kind,")
    assert len(lines) == 6
    assert {"features.parquet", "subset_spreadsheet.csv", "run.json"} <= set(contents(tmp_path / "subset"))


def test_a_budget_too_large_costs_no_features_and_an_aligned_model_is_trained_where_needed(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    prompts = ("--harmful", trained / "harmful.txt", "--harmless", trained / "harmless.txt")
    data = ("--pairs", trained / "pairs.jsonl", "--model", trained / "sft" / "model", *prompts, "--out", "subset")
    argv = ("select", *data, "--selector", "margin_band")
    code, _, err = run(*argv, "--budget", "5")
    assert code == 2
    assert "--train-aligned" in err
    code, _, err = run(*argv, "--budget", "100000", "--train-aligned", "0.5")
    assert code == 2
    assert "budget" in err
    names = {path.name.split("-")[0] for path in (tmp_path / "subset" / "features.work").iterdir()}
    assert {"aligned", "reference", "proxy"} <= names
    assert [path.name for path in (tmp_path / "subset").iterdir()] == ["features.work"]
    assert run(*argv, "--budget", "5", "--train-aligned", "0.5")[0] == 0
    assert not (tmp_path / "subset" / "features.work").exists()
    features = read_features(tmp_path / "subset" / "features.parquet")
    assert (features.column("aligned_chosen_logps") != features.column("ref_chosen_logps")).any()
    assert run(*argv, "--budget", "5", "--train-aligned", "0.5", "--aligned", trained / "sft" / "model")[0] == 2


def test_plan_tells_the_textbooks_numbers_and_what_seeds_add(run: Run) -> None:
    code, out, _ = run("plan", "--delta", "0.1", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["textbook_prompts"] == {"unpaired": 365, "paired": 183}
    assert found["prompts_per_class"] is None  # five seeds that differ by .08 cannot carry it
    assert found["least_seeds"] == next(n for n in range(2, 99) if plan_prompts(run, n) is not None)
    code, out, _ = run("plan", "--delta", "0.1", "--seed-sd", "0.03")
    assert code == 0
    assert "With 5 seeds: " in out
    assert max(map(len, out.splitlines())) <= 120
    for wrong in (("--power", "1.5"), ("--power", "0"), ("--delta", "2"), ("--confidence", "1")):
        assert run("plan", *wrong)[0] == 2, wrong
    assert run("plan", "--run", "nowhere")[0] == 2


def plan_prompts(run: Run, n_seeds: int) -> int | None:
    return json.loads(run("plan", "--confirm-seeds", n_seeds, "--json")[1])["prompts_per_class"]
