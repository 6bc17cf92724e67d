"""Single marked answers: every accepted shape is read, every unusable row is named, and pairs become answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from smidgen.data.answers import MarkedAnswer, answer_from_row, encode_answers, prepare_answers, unpaired
from smidgen.data.checks import EXPLANATIONS, BadRow
from smidgen.data.prepare import TooManyBadRows
from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_pairs
from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import messages_from, plain_pair

PLAIN = load_template("plain")
ROW = {"prompt": "How are you?", "completion": "Well, thank you.", "label": True}


def read(row: Any) -> MarkedAnswer:
    return answer_from_row(row, idx=3, source="a.jsonl", source_row=7)


@pytest.mark.parametrize("name", ["completion", "response", "answer"])
def test_the_answer_goes_by_three_names(name: str) -> None:
    found = read({"prompt": "Hi", name: "Hello.", "label": 0})
    assert (found.answer, found.desirable) == (messages_from("Hello.", "assistant"), False)
    assert (found.idx, found.source, found.source_row, found.weight) == (3, "a.jsonl", 7, 1.0)


@pytest.mark.parametrize("label", [True, 1, 1.0, "true", "True", " TRUE ", "1"])
def test_labels_of_good_answers(label: Any) -> None:
    assert read(ROW | {"label": label}).desirable


@pytest.mark.parametrize("label", [False, 0, 0.0, "false", "False", "0"])
def test_labels_of_bad_answers(label: Any) -> None:
    assert not read(ROW | {"label": label}).desirable


@pytest.mark.parametrize("label", [None, "", "yes", 2, -1, 0.5, float("nan"), [True], "good"])
def test_other_labels_say_nothing(label: Any) -> None:
    with pytest.raises(BadRow) as found:
        read(ROW | {"label": label})
    assert found.value.reason == "bad_label"


def test_messages_are_read_as_in_pairs() -> None:
    chat = {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "completion": [{"role": "assistant", "content": "Hello."}],
        "label": True,
    }
    found = read(chat)
    assert [m.role for m in found.prompt] == ["system", "user"]
    assert found.answer == messages_from("Hello.", "assistant")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"completion": None}, "null_field"),
        ({"completion": " "}, "empty_field"),
        ({"completion": 3}, "not_text"),
        ({"prompt": "a\0b"}, "nul_character"),
        ({"prompt": [{"role": "assistant", "content": "Hi"}]}, "bad_messages"),
        ({"completion": [{"role": "user", "content": "Hi"}]}, "bad_messages"),
        ({"weight": -1}, "bad_weight"),
        ({"weight": "many"}, "bad_weight"),
        ({"weight": float("inf")}, "bad_weight"),
        ({"weight": None}, "bad_weight"),
    ],
)
def test_unusable_rows_are_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as found:
        read(ROW | change)
    assert found.value.reason == reason
    assert reason in EXPLANATIONS


@pytest.mark.parametrize("lacking", ["prompt", "completion", "label"])
def test_a_missing_column_is_named(lacking: str) -> None:
    with pytest.raises(BadRow, match=f"no {lacking}"):
        read({name: value for name, value in ROW.items() if name != lacking})
    with pytest.raises(BadRow, match="not_an_object"):
        read([1])


def test_bad_rows_never_cost_a_good_one(write_jsonl, tokenizer) -> None:
    path = write_jsonl(
        ROW,
        b'{"prompt": "cut of\n',
        ROW | {"label": "maybe"},
        ROW,
        ROW | {"label": False},
        ROW | {"completion": "Well. " * 50},
        ROW | {"prompt": "Who?", "weight": 2},
    )
    found = prepare_answers(path, template=PLAIN, tokenizer=tokenizer, max_length=60)
    assert [(q.line, q.reason) for q in found.quarantine] == [
        (2, "malformed_json"),
        (3, "bad_label"),
        (4, "duplicate_answer"),
        (6, "over_long"),
    ]
    # The same answer marked both ways stays: people may disagree.
    assert [(a.idx, a.desirable, a.weight) for a in found.answers] == [(0, True, 1), (4, False, 1), (6, True, 2)]
    assert [(e.idx, e.desirable, e.weight) for e in found.encoded] == [(0, True, 1), (4, False, 1), (6, True, 2)]


def test_tables_are_read_too(tmp_path: Path, tokenizer) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": f"Question {i}?", "completion": f"Answer, {i}.", "label": i % 2 == 0} for i in range(4)]
    lines = ["prompt,completion,label", *(f'{r["prompt"]},"{r["completion"]}",{r["label"]}' for r in rows)]
    (tmp_path / "answers.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "answers.parquet")
    found = [
        prepare_answers(tmp_path / f"answers.{suffix}", template=PLAIN, tokenizer=tokenizer).encoded
        for suffix in ("jsonl", "csv", "parquet")
    ]
    assert found[0] == found[1] == found[2]
    assert [a.desirable for a in found[0]] == [True, False, True, False]
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected\na,b,c\n")
    with pytest.raises(InvalidData, match="expected the columns prompt, label"):
        prepare_answers(tmp_path / "pairs.csv", template=PLAIN, tokenizer=tokenizer)


def test_data_that_is_mostly_bad_is_refused(write_jsonl, tokenizer) -> None:
    bad = write_jsonl(ROW, *[ROW | {"label": "?"}] * 3)
    with pytest.raises(TooManyBadRows, match="at most 50% bad rows, got 3 of 4: 3 bad_label"):
        prepare_answers(bad, template=PLAIN, tokenizer=tokenizer)
    assert len(prepare_answers(bad, template=PLAIN, tokenizer=tokenizer, max_bad_fraction=0.75).answers) == 1
    with pytest.raises(TooManyBadRows, match="at least one usable answer, got none"):
        prepare_answers(write_jsonl(ROW), template=PLAIN, tokenizer=tokenizer, max_length=3)
    with pytest.raises(InvalidData, match="empty file"):
        prepare_answers(write_jsonl(), template=PLAIN, tokenizer=tokenizer)
    with pytest.raises(UsageError, match="max_bad_fraction from 0 to 1"):
        prepare_answers(bad, template=PLAIN, tokenizer=tokenizer, max_bad_fraction=2)
    with pytest.raises(UsageError, match="max_length of at least 1"):
        prepare_answers(bad, template=PLAIN, tokenizer=tokenizer, max_length=0)


def test_pairs_become_answers_with_the_tokens_that_they_had(tokenizer) -> None:
    pairs = [plain_pair(i, f"Question {i}?", f"Good {i}.", f"Bad {i}.", source="a", source_row=i) for i in (4, 1)]
    answers = unpaired(pairs)
    assert [(a.idx, a.desirable, a.source_row) for a in answers] == [
        (8, True, 4),
        (9, False, 4),
        (2, True, 1),
        (3, False, 1),
    ]
    as_pairs, _ = encode_pairs(pairs, PLAIN, tokenizer)
    expected = [(p.prompt, answer) for p in as_pairs for answer in (p.chosen, p.rejected)]
    assert [(a.prompt, a.answer) for a in encode_answers(answers, PLAIN, tokenizer)] == expected


def test_the_head_of_a_long_answer_can_be_kept(tokenizer) -> None:
    short, long = unpaired([plain_pair(0, "Who?", "Me.", "Well. " * 30)])
    cut = encode_answers([short, long], PLAIN, tokenizer, max_length=40, answer_head=5)
    assert cut[0].answer[-1] == tokenizer.eos_token_id
    assert len(cut[1].answer) == 5
    assert tokenizer.eos_token_id not in cut[1].answer
