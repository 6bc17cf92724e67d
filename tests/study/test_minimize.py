"""The whole path on a tiny world: what a run leaves behind, and that a killed run ends as one never killed."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from smidgen.errors import InvalidData, UsageError
from smidgen.study.minimize import minimize
from smidgen.study.study import Progress

Arguments = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="session")
def finished(small_study: Arguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    out.mkdir()
    minimize(**small_study(out))
    return out


def results(out: Path) -> dict[str, bytes]:
    names = (
        "subset.csv",
        "subset_spreadsheet.csv",
        "runners_up.csv",
        "certificate.json",
        "nominees.json",
        "inputs.json",
    )
    return {name: (out / name).read_bytes() for name in names}


def test_the_run_folder_is_complete(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"study.sqlite", "features.parquet", "subset.csv", "certificate.json", "model", "DONE"} <= names
    assert not {"weights", "features.work"} & names
    assert (finished / "model" / "model.safetensors").exists()
    assert (
        json.loads((finished / "certificate.json").read_text())["claim"] in (finished / "model/README.md").read_text()
    )


def test_the_subset_is_exactly_what_stood_in_the_data(finished: Path, small_study: Arguments, tmp_path: Path) -> None:
    (source,) = small_study(tmp_path)["pairs"]
    data = {row["idx"]: row for row in map(json.loads, Path(source).read_text(encoding="utf-8").splitlines())}
    with (finished / "subset.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    certificate = json.loads((finished / "certificate.json").read_text())
    assert len(rows) == certificate["subset_size"]
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert all(row[name] == data[int(row["idx"])][name] for name in ("prompt", "chosen", "rejected"))
        assert row["reason"]
        assert "truth" not in row


def test_every_kept_pair_says_why_and_what_nearly_made_it_stands_beside(finished: Path) -> None:
    tables = {}
    for name in ("subset", "runners_up"):
        with (finished / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            tables[name] = {int(row["idx"]): row for row in csv.DictReader(file)}
    kept, others = tables["subset"], tables["runners_up"]
    with sqlite3.connect(finished / "study.sqlite") as connection:
        full = connection.execute("SELECT idxs FROM trials WHERE arm = 'full' LIMIT 1").fetchone()
    everything = set(json.loads(full[0]))
    assert others and not others.keys() & kept.keys() and others.keys() <= everything
    for row in kept.values():
        twin = int(row["twin_idx"])
        assert twin in everything - kept.keys()
        assert 0 < float(row["twin_similarity"]) <= 1
        assert row["twin_reason"] and row["twin_prompt"]
        assert abs(float(row["metagradient"])) < 10
        assert (row["came_by"] == "swap") == bool(row["replaced_idx"]) == row["reason"].startswith("swapped in for")
        assert {"contrast", "implicit_margin", "dev_similarity"} <= row.keys()
    assert any(float(row["metagradient"]) for row in kept.values())
    for row in others.values():
        same = [float(found["metagradient"]) for found in kept.values() if found["kind"] == row["kind"]]
        assert float(row["lowest_kept"]) == min(same)


def test_every_arm_of_the_protocol_is_measured_on_fresh_seeds(finished: Path) -> None:
    certificate = json.loads((finished / "certificate.json").read_text())
    arms = {"base", "full", "full_clean", "subset", "best", "random", "random_in_pool", "sft_on_chosen"}
    assert arms <= certificate["scores"].keys() | certificate["left_out"].keys()
    with sqlite3.connect(finished / "study.sqlite") as connection:
        rows = connection.execute("SELECT prompt_set, arm, seed, trial_id FROM trials").fetchall()
        prompts = connection.execute("SELECT DISTINCT prompt_set, prompt FROM scores").fetchall()
    dev_seeds, confirm_seeds = (
        {row[2] for row in rows if row[0] == side and row[1] != "base"} for side in ("dev", "confirm")
    )
    assert len(confirm_seeds) == 2
    assert not dev_seeds & confirm_seeds
    sides = [{prompt for side, prompt in prompts if side == name} for name in ("dev", "confirm")]
    assert len(sides[0]) == len(sides[1]) == 24
    assert not sides[0] & sides[1]


def test_what_stands_beside_the_claim_is_there(finished: Path) -> None:
    found = json.loads((finished / "certificate.json").read_text())
    assert set(found["detectors"]) == {"exercise", "common", "broad"}
    common = found["detectors"]["common"]
    assert common["scores"]["subset"] == found["scores"]["subset"]
    assert common["difference"]["lower_bound"] == pytest.approx(-found["loss_bound"])
    assert set(found["detector_agreement"]) == {"exercise / common", "exercise / broad", "common / broad"}
    for arm in ("subset", "best"):
        curse = found["winners_curse"][arm]
        assert curse["dev_corrected"]["mean"] == pytest.approx(curse["dev"]["mean"] - curse["selection_bias"], abs=2e-6)
        assert curse["shrinkage"]["mean"] == pytest.approx(curse["dev"]["mean"] - curse["confirm"]["mean"], abs=2e-6)
    assert found["minimality"]["tested"] >= 2
    assert found["transfer"]["objective"].keys() >= {"objective", "full", "subset", "difference", "n_seeds"}


def test_a_second_call_is_done_at_once(finished: Path, small_study: Arguments) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    certificate = minimize(**small_study(finished))
    assert certificate == json.loads((finished / "certificate.json").read_text())
    assert before == {path: path.stat().st_mtime_ns for path in finished.iterdir()}


def test_interrupted_anywhere_and_resumed_ends_as_never_interrupted(
    finished: Path, small_study: Arguments, tmp_path: Path
) -> None:
    """Stopped after every single event in turn; nothing that was finished runs again."""

    class Stop(Exception):
        pass

    seen: list[str] = []

    def stop_at_next_result(progress: Progress) -> None:
        if progress.activity.startswith("features: "):
            seen.append(f"{progress.activity} {progress.done}")
            raise Stop
        if progress.record is not None:
            seen.append(progress.record.trial_id)
            raise Stop

    arguments: dict[str, Any] = {**small_study(tmp_path / "run"), "watch": stop_at_next_result}
    for _ in range(300):
        try:
            minimize(**arguments)
            break
        except Stop:
            continue
    assert len(seen) == len(set(seen)) > 20
    groups = [name.split()[1] for name in seen if name.startswith("features: ")]
    assert sorted(groups) == ["aligned", "pair-vectors", "reference", "text"]
    assert results(tmp_path / "run") == results(finished)


def test_a_dry_run_says_how_much_and_trains_nothing(small_study: Arguments, tmp_path: Path) -> None:
    lines: list[str] = []
    said = minimize(**small_study(tmp_path / "run"), dry_run=True, say=lines.append)
    assert said["trials"] > 20
    assert said["seconds"] > 0
    assert any("trials" in line and "optimiser steps" in line for line in lines)
    assert not (tmp_path / "run" / "study.sqlite").exists()


def test_leaks_block_a_study_unless_allowed(small_study: Arguments, tmp_path: Path) -> None:
    arguments = small_study(tmp_path / "run")
    leaked = json.loads(Path(arguments["pairs"][0]).read_text(encoding="utf-8").splitlines()[3])["prompt"]
    prompts = tmp_path / "harmful.txt"
    prompts.write_text(arguments["harmful"].read_text() + leaked + " please\n")
    arguments["harmful"] = prompts
    with pytest.raises(InvalidData, match=r"leaks\.json"):
        minimize(**arguments, dry_run=True)
    (leak,) = [leak for leak in json.loads((tmp_path / "run" / "leaks.json").read_text()) if leak["idx"] == 3]
    assert leak["twin"] == leaked + " please"
    assert minimize(**arguments, dry_run=True, allow_leaks=True)["dry_run"]


def test_half_a_pair_of_prompt_files_is_refused(small_study: Arguments, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--confirm-harmless"):
        arguments: dict[str, Any] = {**small_study(tmp_path / "run"), "confirm_harmless": None}
        minimize(**arguments)


_SCRIPT = """
import json, sys
from pathlib import Path
from smidgen.study.minimize import minimize
from smidgen.study.plan import StudySettings
from smidgen.training.loop import Recipe

if __name__ == "__main__":
    arguments = json.loads(Path(sys.argv[1]).read_text())
    settings = arguments.pop("settings")
    settings["recipe"] = Recipe(**settings["recipe"])
    paths = ("out", "harmful", "harmless", "confirm_harmful", "confirm_harmless")
    arguments |= {name: Path(arguments[name]) for name in paths}
    minimize(**arguments, settings=StudySettings(**settings))
"""


@pytest.mark.slow
def test_killed_with_workers_and_resumed_equals_never_killed(
    finished: Path, small_study: Arguments, tmp_path: Path
) -> None:
    """Workers are processes; SIGKILL hits the parent at a random-enough moment, four times."""
    out = tmp_path / "run"
    arguments: dict[str, Any] = {**small_study(out), "workers": 2}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}
    plain["settings"] = asdict(arguments["settings"])
    (tmp_path / "arguments.json").write_text(json.dumps(plain))
    (tmp_path / "run.py").write_text(_SCRIPT)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "arguments.json")]
    for done_trials in (1, 8, 17, 30):
        process = subprocess.Popen(command, start_new_session=True)
        while process.poll() is None and _finished_trials(out) < done_trials:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, timeout=500)
    assert results(out) == results(finished)


def _finished_trials(out: Path) -> int:
    try:
        with sqlite3.connect(f"file:{out / 'study.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_another_seed_is_another_study(finished: Path, small_study: Arguments, tmp_path: Path) -> None:
    arguments = small_study(tmp_path / "run")
    settings = replace(arguments["settings"], seed=1, refine_groups=0, both_budgets=False, confirm_sizes=1)
    certificate = minimize(**arguments | {"settings": settings})
    assert not set(certificate["seeds"]) & set(json.loads((finished / "certificate.json").read_text())["seeds"])


def test_a_study_may_rank_by_trials_of_its_own_and_swap_nothing(small_study: Arguments, tmp_path: Path) -> None:
    arguments = small_study(tmp_path / "run")
    few: dict[str, Any] = {"sizes": (12,), "swap_rounds": 0, "refine_groups": 0, "both_budgets": False}
    own: dict[str, Any] = {"selectors": ("datamodel",), "datamodel_trials": 5, "datamodel_size": 16, "transfer": False}
    certificate = minimize(**arguments | {"settings": replace(arguments["settings"], **few, **own)})
    size = certificate["datamodel"]["size"]
    assert certificate["datamodel"]["trials"] == 5 and 2 <= size <= 16
    with sqlite3.connect(tmp_path / "run" / "study.sqlite") as connection:
        (n,) = connection.execute(
            "SELECT count(*) FROM trials WHERE arm = 'datamodel' AND budget = ?", (size,)
        ).fetchone()
    assert n == 5
    with (tmp_path / "run" / "subset.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["came_by"] for row in rows} == {"ranking"}
    assert all("coefficient" in row["reason"] and row["twin_reason"] for row in rows)
    assert "metagradient" not in rows[0]
    assert not (tmp_path / "run" / "runners_up.csv").exists()
