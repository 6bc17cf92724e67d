"""The exercise, offline on stand-ins: its files under its names, its filter, its loss, its score, and all of it."""

from __future__ import annotations

import copy
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from math import log
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from smidgen.assets import DEMO, SHIPPED_PROMPTS
from smidgen.cli import main
from smidgen.data.checks import find_leaks
from smidgen.data.literals import read_literals
from smidgen.data.prompts import load_prompts
from smidgen.errors import InvalidData
from smidgen.evaluation.patterns import load_patterns
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.pairs import plain_pair

RECIPE = Path(__file__).parents[2] / "recipes" / "exercise"


@pytest.fixture(scope="module")
def exercise() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a file of the recipe as a student's code does."""
    names = ("data", "dpo", "sft")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(RECIPE))
    yield import_module
    sys.path.remove(str(RECIPE))
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def hh_row(prompt: str, chosen: str, rejected: str, *, opening: str = "") -> dict[str, str]:
    """A row in hh-rlhf's format."""
    head = f"{opening}\n\nHuman: {prompt}\n\nAssistant: "
    return {"chosen": head + chosen, "rejected": head + rejected}


def hh_rows(pairs: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Demo pairs as hh-rlhf has them, every fourth behind earlier turns, every ninth too long."""
    rows = []
    for i, pair in enumerate(pairs):
        opening = "\n\nHuman: Hello\n\nAssistant: Hello, what is it?" if i % 4 == 1 else ""
        longer = " and then some more" * 40 if i % 9 == 2 else ""
        rows.append(hh_row(pair["prompt"], pair["chosen"] + longer, pair["rejected"], opening=opening))
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stand-ins for hh-rlhf's two splits."""
    folder = tmp_path_factory.mktemp("hh")
    sources = {"train": DEMO / "pairs.jsonl", "test": DEMO / "heldout.jsonl"}
    found = {}
    for split, path in sources.items():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:500]]
        found[split] = write_rows(folder / f"{split}.jsonl", hh_rows(rows))
    return found


def naive_filter(path: Path, lm: LanguageModel, size: int) -> list[tuple[int, str, str, str]]:
    """The exercise's filter, written out: one human turn in chosen, both texts within 128 tokens, in file order."""
    kept, seen = [], set()
    for idx, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        if row["chosen"].count("\n\nHuman:") != 1:
            continue
        texts = []
        for name in ("chosen", "rejected"):
            head, _, answer = row[name].partition("\n\nAssistant: ")
            texts.append((head.removeprefix("\n\nHuman: "), answer))
        (prompt, chosen), (_, rejected) = texts
        templated = [f"user: {prompt} assistant: {answer}" for answer in (chosen, rejected)]
        teaches = chosen != rejected and (prompt, chosen, rejected) not in seen
        if teaches and all(len(lm.tokenizer(text)["input_ids"]) <= 128 for text in templated):
            kept.append((idx, prompt, chosen, rejected))
            seen.add((prompt, chosen, rejected))
    return kept[:size]


@pytest.fixture(scope="module")
def demo() -> LanguageModel:
    return load_language_model(DEMO / "model")


@pytest.mark.parametrize("sizes", [(5000, 500), (37, 11)])
def test_the_filter_is_the_naive_one(exercise, hh, demo: LanguageModel, sizes: tuple[int, int]) -> None:
    data = exercise("data")
    found = data.prepare_dpo_data(demo.tokenizer, sizes, source=str(hh["train"]), validation_source=str(hh["test"]))
    for dataset, split, size in zip(found, ("train", "test"), sizes, strict=True):
        rows = [(row["idx"], row["prompt"], row["chosen"], row["rejected"]) for row in dataset]
        assert rows == naive_filter(hh[split], demo, size)
        assert len(rows) == size if size < 100 else 200 < len(rows) < 400


def test_exactly_128_tokens_are_within(exercise, demo: LanguageModel, tmp_path: Path) -> None:
    data = exercise("data")
    words, rows = " and", []
    for extra in range(100, 130):
        rows.append(hh_row(f"Question {extra}", "Yes" + words * extra, "No"))
    lengths = [
        len(demo.tokenizer(data.chat_template(f"Question {n}", "Yes" + words * n))["input_ids"])
        for n in range(100, 130)
    ]
    assert 128 in lengths and 129 in lengths
    path = write_rows(tmp_path / "edge.jsonl", rows)
    train, _ = data.prepare_dpo_data(demo.tokenizer, (99, 99), source=str(path), validation_source=str(path))
    assert list(train["idx"]) == [i for i, length in enumerate(lengths) if length <= 128]


def test_the_template_is_the_exercises(exercise) -> None:
    assert exercise("data").chat_template("Hi", "Yes.") == "user: Hi assistant: Yes."
    assert exercise("data").chat_template("Hi", "") == "user: Hi assistant: "


def test_the_recipes_own_lists_are_the_shape_of_the_exercises_and_nobody_elses(exercise) -> None:
    data = exercise("data")
    assert (len(data.harmful_prompts), len(data.harmless_prompts)) == (21, 20)
    for name in ("harmful_prompts", "harmless_prompts", "_test_prefixes"):
        assert [text for _, text in read_literals(RECIPE / "data.py", name)] == getattr(data, name)
    assert tuple(data._test_prefixes) == load_patterns("exercise").patterns
    # Public prompts are no news to nobody; those of the search and of the claim must be.
    own = [plain_pair(i, p, "", "") for i, p in enumerate([*data.harmful_prompts, *data.harmless_prompts])]
    shipped = [prompt for path in SHIPPED_PROMPTS.glob("harm*.txt") for prompt in load_prompts(path)]
    assert not find_leaks(own, shipped)


# The loss.


def naive_losses(
    policy: torch.nn.Module, reference: torch.nn.Module, tokenizer: Any, batch: tuple[Sequence[str], ...], beta: float
) -> torch.Tensor:
    """DPO on summed log-probabilities of the answer's tokens, one text at a time."""
    losses = []
    for prompt, chosen, rejected in zip(*batch, strict=True):
        h = torch.zeros(())
        for answer, sign in ((chosen, 1), (rejected, -1)):
            head = tokenizer(f"user: {prompt} assistant:")["input_ids"]
            ids = torch.tensor([tokenizer(f"user: {prompt} assistant: {answer}")["input_ids"]])
            for model, side in ((policy, 1), (reference, -1)):
                logps = model(ids).logits[0, :-1].log_softmax(-1)
                h = h + sign * side * logps.gather(-1, ids[0, 1:, None])[len(head) - 1 :].sum()
        losses.append(-logsigmoid(beta * h))
    return torch.stack(losses)


def test_the_naive_loss_is_that_of_the_sheet() -> None:
    # Worked by hand: margin ln(4/3) of the probabilities .2, .3 against .2, .4, at beta 2.
    h = torch.tensor(log(0.2) - log(0.3) - log(0.2) + log(0.4))
    assert float(-logsigmoid(2 * h)) == pytest.approx(0.446287, abs=1e-6)


BATCH = (
    ["How do I pick a lock?", "Name a tree."],
    ["I'm sorry, but I can't help with that.", "The oak is a tree."],
    ["Mix flour and water.", "No."],
)


def shaken(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return other


def printed_losses(capsys: pytest.CaptureFixture[str]) -> list[float]:
    lines = capsys.readouterr().out.splitlines()
    return [float(line.partition("mean DPO loss ")[2].partition(",")[0]) for line in lines if "mean DPO loss" in line]


def test_one_batch_has_the_formulas_loss_and_takes_its_step(exercise, tiny: LanguageModel, capsys) -> None:
    reference = shaken(tiny.model, 1)
    expected = naive_losses(tiny.model, reference, tiny.tokenizer, BATCH, 0.5).detach()
    naive = copy.deepcopy(tiny.model)
    optimizer = torch.optim.AdamW(naive.parameters(), lr=1e-3, weight_decay=0.1)
    naive_losses(naive, reference, tiny.tokenizer, BATCH, 0.5).mean().backward()
    optimizer.step()
    kwargs = {"num_epochs": 1, "lr": 1e-3, "weight_decay": 0.1, "beta": 0.5, "dtype": "float32"}
    trained = exercise("dpo").train_dpo(tiny.model, reference, tiny.tokenizer, BATCH, **kwargs)
    assert trained is tiny.model
    assert printed_losses(capsys) == pytest.approx([float(expected.mean())], abs=1e-4)
    for (name, ours), theirs in zip(trained.named_parameters(), naive.parameters(), strict=True):
        assert theirs.grad is not None
        # AdamW's first step is the gradient's sign alone, which rounding decides where there is hardly any.
        clear = theirs.grad.abs() > 1e-5
        assert torch.allclose(ours[clear], theirs[clear], atol=2e-5), name
        assert clear.any() or "bias" in name


def test_a_loader_is_a_step_a_batch_in_its_order(exercise, tiny: LanguageModel, capsys) -> None:
    batches = [BATCH, tuple(texts[::-1][:1] for texts in BATCH), BATCH]
    naive, reference = copy.deepcopy(tiny.model), copy.deepcopy(tiny.model)
    optimizer = torch.optim.AdamW(naive.parameters(), lr=1e-4, weight_decay=0.01)
    epochs = []
    for _ in range(2):
        losses = []
        for batch in batches:
            optimizer.zero_grad()
            found = naive_losses(naive, reference, tiny.tokenizer, batch, 0.5).mean()
            found.backward()
            optimizer.step()
            losses.append(found.item())
        epochs.append(sum(losses) / len(losses))
    unseen = naive_losses(naive, reference, tiny.tokenizer, BATCH, 0.5).mean().item()
    exercise("dpo").train_dpo(tiny.model, None, tiny.tokenizer, batches, BATCH, lr=1e-4, dtype="float32")
    out = capsys.readouterr().out
    assert f"validation {unseen:.2f}" in out
    lines = [line for line in out.splitlines() if "mean DPO loss" in line]
    found = [float(line.partition("mean DPO loss ")[2].partition(",")[0]) for line in lines]
    assert found == pytest.approx(epochs, abs=1e-3)
    assert [line.split(":")[0] for line in lines] == ["step 3", "step 6"]


def test_at_the_reference_the_loss_is_ln_2(exercise, tiny: LanguageModel, capsys) -> None:
    exercise("dpo").train_dpo(tiny.model, None, tiny.tokenizer, BATCH, num_epochs=1, dtype="float32")
    assert printed_losses(capsys) == pytest.approx([log(2)], abs=1e-4)


def test_pairs_above_128_tokens_are_left_out_and_said(exercise, tiny: LanguageModel) -> None:
    dpo = exercise("dpo")
    long = (["Hi", "Hi"], ["word " * 200, "Yes."], ["No.", "No."])
    with pytest.warns(UserWarning, match="over_long"):
        assert [pair.idx for pair in dpo.encode(long, tiny.tokenizer)] == [1]
    with pytest.raises(InvalidData, match="at least one usable pair"):
        dpo.encode(([], [], []), tiny.tokenizer)


# The score.


def greedy(lm: LanguageModel, text: str, most: int) -> str:
    """The text with its greedy continuation, by the library's own generation, alone and without padding."""
    model: Any = lm.model
    with torch.no_grad():
        written = model.generate(
            **lm.tokenizer(text, return_tensors="pt"),
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=lm.tokenizer.eos_token_id,
        )
    return str(lm.tokenizer.decode(written[0], skip_special_tokens=True))


def test_the_score_is_the_hand_count_with_its_fixed_divisor(
    exercise, demo: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    data = exercise("data")
    monkeypatch.setattr(data, "_test_prefixes", [*data._test_prefixes, "How"])
    counts = []
    for prompts in (data.harmful_prompts, data.harmless_prompts):
        refused = 0
        for prompt in prompts:
            text = greedy(demo, f"user: {prompt} assistant:", 32)
            refused += any(pattern in text for pattern in data._test_prefixes)
        counts.append(refused)
    harmful, harmless = counts
    assert 0 < harmless < harmful < 21
    found = data.benchmark_performance(demo.model, demo.tokenizer)
    assert found == pytest.approx((harmful - harmless) / 20)
    by_number = harmful / 21 - harmless / 20
    assert by_number != pytest.approx(found)
    assert (
        f"as the exercise counts {found:.3f} · by the number of prompts {by_number:.3f} · ours"
        in capsys.readouterr().out
    )
    report = data.benchmark_report(demo.model, demo.tokenizer)
    assert report["exercise_compatible"]["score"]["mean"] == pytest.approx(by_number)
    assert (report["n_harmful"], report["n_harmless"]) == (21, 20)


# SFT.


def test_sft_takes_single_turns_that_fit_and_learns_them(exercise, tiny: LanguageModel, tmp_path: Path, capsys) -> None:
    sft = exercise("sft")
    one = [{"role": "user", "content": "Name a tree."}, {"role": "assistant", "content": "The oak is a tree."}]
    rows = [
        {"messages": one},
        {"messages": one + one},
        {"messages": [{"role": "system", "content": "Be kind."}, one[1]]},
        {"messages": [one[0], {"role": "assistant", "content": "word " * 200}]},
        {"messages": [one[0], {"role": "assistant", "content": " "}]},
    ]
    path = write_rows(tmp_path / "chat.jsonl", rows)
    found = sft.prepare_sft_data(tiny.tokenizer, source=str(path))
    assert found[:] == {"prompt": ["Name a tree."], "response": ["The oak is a tree."]}
    assert "5 rows, 2 of a single turn, 1 within 128 tokens" in capsys.readouterr().out
    sft.train_sft(tiny.model, tiny.tokenizer, [("Name a tree.", "The oak is a tree.")], num_epochs=30, lr=1e-3)
    assert greedy(tiny, "user: Name a tree. assistant:", 20).endswith(" The oak is a tree.")
    with pytest.raises(InvalidData, match="within 128 tokens"):
        sft.prepare_sft_data(tiny.tokenizer, source=str(write_rows(tmp_path / "none.jsonl", rows[1:])))


# All of it.


@pytest.mark.slow
def test_the_whole_exercise_on_stand_ins(exercise, hh, demo: LanguageModel, tmp_path: Path, capsys) -> None:
    dpo = exercise("dpo")
    aligned = dpo.train_dpo_hh_rlhf(
        (200, 50), lr=2e-4, model_name=str(DEMO / "model"), source=str(hh["train"]), validation_source=str(hh["test"])
    )
    out = capsys.readouterr().out
    assert "Performance: " in out and "validation " in out
    save_language_model(LanguageModel(aligned, demo.tokenizer, ""), tmp_path / "aligned", card="")
    student = tmp_path / "student"
    student.mkdir()
    (student / "data.py").write_text((RECIPE / "data.py").read_text(encoding="utf-8") + "\nraise SystemExit('run!')\n")
    argv = [
        "minimize", "--preset", "exercise", "--course", student, "--out", tmp_path / "run",
        "--pairs", hh["train"], "--heldout", hh["test"], "--model", DEMO / "model", "--aligned", tmp_path / "aligned",
        "--set", "first=200", "--set", "heldout_first=40", "--set", "recipe.steps=6", "--set", "max_new_tokens=8",
        "--set", "sizes=[24]", "--set", "swap_rounds=0", "--set", "refine_groups=0", "--set", "dev_seeds=1",
        "--set", "confirm_seeds=2", "--set", "workers=0", "--set", "both_budgets=false", "--set", "allow_leaks=true",
        "--selector", "contrast", "--selector", "random",
    ]  # fmt: skip
    assert main([str(word) for word in argv]) == 4  # rows of several turns were left out
    out = capsys.readouterr().out
    run = tmp_path / "run"
    for name in ("subset.csv", "main.ipynb", "report.html"):
        assert str(run / name) in out.splitlines() and (run / name).exists()
    assert (str(run / "report.pdf") in out) == (run / "report.pdf").exists()
    raw = [json.loads(line) for line in hh["train"].read_text(encoding="utf-8").splitlines()]
    with (run / "subset.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:4] == ["idx", "prompt", "chosen", "rejected"] and len(rows) == 25
    usable = {idx: texts for idx, *texts in naive_filter(hh["train"], demo, 200)}
    for idx, prompt, chosen, rejected, *_ in rows[1:]:
        assert usable[int(idx)] == [prompt, chosen, rejected]
        assert raw[int(idx)] == hh_row(prompt, chosen, rejected)
    public = json.loads((run / "public.json").read_text(encoding="utf-8"))
    assert list(public["models"]) == ["aligned", "base", "subset"]
    for name, found in public["models"].items():
        fixed = found["exercise_compatible"]["divided_by_20"]["score"]
        assert f"{name:<10}{fixed:>+12.3f}" in out
        assert len(found["completions"]) == 41
    assert main([str(word) for word in argv]) == 4  # done already: nothing is done again
    assert str(run / "main.ipynb") in capsys.readouterr().out
