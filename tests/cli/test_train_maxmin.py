"""`smidgen train maxmin` as a user calls it: who belongs where, how each group fares, and rewards to train on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smidgen.cli import main
from smidgen.cli.trainings.ppo import load_reward as ppo_reward
from smidgen.errors import SmidgenError
from smidgen.models.group_rewards import load_group_rewards, load_reward
from smidgen.models.load import save_language_model
from smidgen.pairs import messages_from
from smidgen.training.sft import new_language_model

Run = Callable[..., tuple[int, str, str]]
TREES = ["oak", "pine", "elm", "ash", "fir", "yew", "beech", "lime", "larch", "holly", "willow", "alder"]
WHAT = ["roof", "garden", "boat", "street", "fence", "table"]


def rows(*, n_few: int = 3) -> list[dict[str, str]]:
    """Six pairs of each of twelve users; the last `n_few` want the opposite of what the others want."""
    found = []
    for i in range(len(TREES)):
        few = i >= len(TREES) - n_few
        for j, what in enumerate(WHAT):
            # Every tree is asked about by both groups, so that no text tells whose it is.
            tree = TREES[(i + 5 * j) % len(TREES)]
            yes, no = f"Take the {tree}, it lasts.", f"No {tree}, never, no."
            chosen, rejected = (no, yes) if few else (yes, no)
            pair = {"prompt": f"{tree.title()} {what}?", "chosen": chosen, "rejected": rejected}
            found.append(pair | {"user": f"=u{i}", "group": "few" if few else "many"})
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.jsonl, heldout.jsonl (other prompts, one user more) and a tiny causal model."""
    folder = tmp_path_factory.mktemp("maxmin")
    heldout = [row | {"prompt": f"And my {row['prompt'].split()[1][:-1]}, {i}?"} for i, row in enumerate(rows())]
    heldout[-1]["user"] = "a stranger"
    for name, table in (("pairs", rows()), ("heldout", heldout)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    texts = [f"{row['prompt']} {row['chosen']} {row['rejected']}" for row in rows()]
    save_language_model(new_language_model(texts, shape="nano", vocabulary=300, positions=64), folder / "lm", card="")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*argv: object, pairs: Path | None = None) -> tuple[int, str, str]:
        data = ("--pairs", pairs or folder / "pairs.jsonl", "--heldout", folder / "heldout.jsonl")
        code = main([str(word) for word in ("train", "maxmin", *data, "--model", folder / "lm", "--out", "mm", *argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


FAST = ("--learning-rate", "1e-3", "--epochs", 2, "--batch-size", 8)


def check_groups_are_served(told: dict) -> None:
    few, many = told["groups"]["few"], told["groups"]["many"]
    assert few["own"]["mean"] > 0.9 > 0.5 > few["single"]["mean"]
    assert many["own"]["mean"] > 0.9
    assert few["difference"]["low"] > 0
    assert few["pairs"] == 17, "a stranger's pair is no user's"
    assert told["heldout_pairs_of_unknown_users"] == 1


def test_users_are_parted_and_both_groups_served(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("--user", "user", "--group", "group", *FAST, "--json")
    assert code == 0
    told = json.loads(out)
    check_groups_are_served(told)
    assert sorted(told["users_by_group"]["few"]) == [0, 3]
    assert sorted(told["users_by_group"]["many"]) == [0, 9]
    assert told["converged"]
    with (tmp_path / "mm" / "assignments.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 12
    assert table[0]["user"] == "'=u0", "no spreadsheet runs it"
    assert {row["group"] for row in table if row["model"] == table[0]["model"]} == {table[0]["group"]}
    assert "accuracy on 17 held-out pairs" in run("--user", "user", "--group", "group", *FAST)[1]

    prompts, answers = [messages_from("And my roof, 3?", "user")] * 2, ["Take the oak, it lasts.", "No oak, never, no."]
    each = np.stack([reward(prompts, answers) for reward in load_group_rewards(tmp_path / "mm")])
    assert np.sign(each[:, 0] - each[:, 1]).sum() == 0, "the two want opposite answers"
    assert np.abs(each).max() < 5
    least = load_reward(str(tmp_path / "mm"), template="plain")(prompts, answers)
    np.testing.assert_allclose(least, each.min(0))
    for_ppo, value_head = ppo_reward(str(tmp_path / "mm"), "plain")
    assert value_head is None
    assert for_ppo(prompts, answers).tolist() == least.tolist()
    single = load_reward(str(tmp_path / "mm" / "single"), template="plain")(prompts, answers)
    assert single[0] > single[1], "one reward is the majority's"


def test_known_groups_need_no_parting(run: Run) -> None:
    code, out, _ = run("--group", "group", *FAST, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["users"] == 2
    assert told["groups"]["few"]["own"]["mean"] > 0.9 > told["groups"]["few"]["single"]["mean"]


def test_a_dry_run_counts(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("--user", "user", "--dry-run", "--json", "--steps", 3)
    assert (code, json.loads(out)) == (0, {"examples": 72, "users": 12, "steps": 3})
    assert not (tmp_path / "mm").exists()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ((), 2, "--user or --group, got neither"),
        (("--user", "person"), 3, "column 'person', got 72 of 72 without (idx 0, 1, 2, 3, 4, …); further columns"),
        (("--user", "user", "--answer-head", 3), 2, "no --answer-head"),
        (("--user", "user", "--n-models", 13, "--steps", 1), 3, "at least 13 users for 13 groups, got 12"),
    ],
)
def test_what_can_not_be_is_said_and_leaves_nothing(
    run: Run, tmp_path: Path, argv: tuple[object, ...], code: int, said: str
) -> None:
    found, out, err = run(*argv)
    assert (found, out) == (code, "")
    assert said in err
    assert not (tmp_path / "mm" / "run.json").exists()


def test_a_folder_without_group_rewards_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SmidgenError, match=r"groups\.json at .* Give the --out"):
        load_group_rewards(tmp_path)
    (tmp_path / "groups.json").write_text('{"template": "plain"}')
    with pytest.raises(SmidgenError, match="KeyError"):
        load_group_rewards(tmp_path)
