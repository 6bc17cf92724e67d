"""Other programs' rows are the same pair as this project's own; what is none of them says what was seen."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smidgen.data.checks import EXPLANATIONS, BadRow
from smidgen.data.prepare import prepare_pairs, write_pairs
from smidgen.data.rows import pair_from_row
from smidgen.data.sources import rows_in_memory
from smidgen.errors import InvalidData
from smidgen.pairs import Message, PreferencePair, messages_from, plain_pair

PLACE = {"idx": 5, "source": "file.jsonl", "source_row": 3}
USER, YES, NO = (Message(*turn) for turn in (("user", "Hi"), ("assistant", "Yes."), ("assistant", "No.")))
SYSTEM, EARLIER = Message("system", "Be kind."), (Message("user", "Ho"), Message("assistant", "Ho!"))


def turns(*messages: Message, role: str = "role", content: str = "content", **names: str) -> list[dict[str, str]]:
    return [{role: names.get(m.role, m.role), content: m.content} for m in messages]


def sharegpt(*messages: Message) -> list[dict[str, str]]:
    return turns(*messages, role="from", content="value", user="human", assistant="gpt")


def read(columns: dict[str, Any]) -> PreferencePair:
    return pair_from_row(columns, **PLACE)


ANSWERS = {"chosen": "Yes.", "rejected": "No."}
RATED = {"generations": ["So so.", "No.", "Yes.", None], "ratings": [3, 1.5, 5, None]}
ONE_TURN = {
    "TRL, implicit": {"chosen": turns(USER, YES), "rejected": turns(USER, NO)},
    "LLaMA-Factory alpaca": {"instruction": "Hi", "input": "", **ANSWERS},
    "LLaMA-Factory alpaca, bare": {"instruction": "Hi", **ANSWERS},
    "LLaMA-Factory sharegpt": {
        "conversations": sharegpt(USER),
        "chosen": sharegpt(YES)[0],
        "rejected": sharegpt(NO)[0],
    },
    "axolotl chat_template.default": {"messages": turns(USER), "chosen": turns(YES)[0], "rejected": turns(NO)[0]},
    "axolotl chat_template.default, texts": {"messages": "Hi", **ANSWERS},
    "axolotl chatml.intel": {"question": "Hi", **ANSWERS},
    "axolotl chatml.icr": {"input": "Hi", **ANSWERS},
    "axolotl chatml.prompt_pairs": {"system": "", "prompt": "Hi", **ANSWERS},
    "Argilla": {"instruction": "Hi", "chosen_response": "Yes.", "rejected_response": "No."},
    "OpenRLHF": {"prompt": turns(USER), "chosen": turns(YES), "rejected": turns(NO)},
    "chosen wins": {"prompt": "Hi", "instruction": "Other", **ANSWERS, "generations": ["a"], "ratings": [1]},
}


@pytest.mark.parametrize("name", ONE_TURN)
def test_every_programs_row_is_the_same_pair(name: str) -> None:
    pair = read(ONE_TURN[name])
    assert (pair.prompt, pair.chosen, pair.rejected) == ((USER,), (YES,), (NO,))
    assert pair.meta == ({"instruction": "Other"} if name == "chosen wins" else {})


SEVERAL_TURNS = {
    "TRL, implicit": {"chosen": turns(SYSTEM, *EARLIER, USER, YES), "rejected": turns(SYSTEM, *EARLIER, USER, NO)},
    "LLaMA-Factory alpaca": {"system": "Be kind.", "history": [["Ho", "Ho!"]], "instruction": "Hi", **ANSWERS},
    "LLaMA-Factory sharegpt": {
        "conversations": sharegpt(SYSTEM, *EARLIER, USER),
        "chosen": sharegpt(YES)[0],
        "rejected": sharegpt(NO)[0],
    },
    "LLaMA-Factory sharegpt, system": {
        "system": "Be kind.",
        "conversations": sharegpt(*EARLIER, USER),
        "chosen": sharegpt(YES)[0],
        "rejected": sharegpt(NO)[0],
    },
    "axolotl": {"messages": turns(SYSTEM, *EARLIER, USER), "chosen": turns(YES)[0], "rejected": turns(NO)[0]},
    "distilabel, chat": {"messages": turns(SYSTEM, *EARLIER, USER), **RATED},
}


@pytest.mark.parametrize("name", SEVERAL_TURNS)
def test_earlier_turns_and_the_system_prompt_are_kept(name: str) -> None:
    pair = read(SEVERAL_TURNS[name])
    assert pair.prompt == (SYSTEM, *EARLIER, USER)
    assert (pair.chosen, pair.rejected) == ((YES,), (NO,))


@pytest.mark.parametrize("column", ["prompt", "instruction", "question", "input"])
def test_a_system_prompt_beside_a_text_is_its_first_turn(column: str) -> None:
    assert read({"system": "Be kind.", column: "Hi", **ANSWERS}).prompt == (SYSTEM, USER)
    assert read({"system_prompt": "Be kind.", column: "Hi", **ANSWERS}).prompt == (SYSTEM, USER)
    assert read({"system": None, column: "Hi", **ANSWERS}).prompt == (USER,)


def test_the_best_and_the_worst_rated_are_taken_with_their_ratings() -> None:
    pair = read({"instruction": "Hi", **RATED, "model_name": "m"})
    assert (pair.chosen, pair.rejected) == ((YES,), (NO,))
    assert pair.meta == {"chosen_rating": 5, "rejected_rating": 1.5, "model_name": "m"}


def test_an_instructions_input_stands_on_the_next_line() -> None:
    assert read({"instruction": "Add.", "input": "1 2", **ANSWERS}).prompt == messages_from("Add.\n1 2", "user")


BAD = {
    "unknown": ({"query": "Hi", "better": "Yes.", "worse": "No."}, "missing_column", "query"),
    "no prompt": ({"query": "Hi", **ANSWERS}, "no_prompt", "query"),
    "ratings missing": ({"instruction": "Hi", "generations": ["a", "b"]}, "missing_column", "generations"),
    "too few ratings": ({"instruction": "Hi", "generations": ["a", "b"], "ratings": [1]}, "bad_ratings", "[1]"),
    "one rating": ({"instruction": "Hi", "generations": ["a", "b"], "ratings": [1, None]}, "bad_ratings", "None"),
    "NaN": ({"instruction": "Hi", "generations": ["a", "b"], "ratings": [1, float("nan")]}, "bad_ratings", "nan"),
    "ratings in words": ({"instruction": "Hi", "generations": ["a", "b"], "ratings": ["1", "2"]}, "bad_ratings", "'2'"),
    "ties": ({"instruction": "Hi", "generations": ["a", "b"], "ratings": [2, 2]}, "tied_ratings", "2"),
    "null answer": ({"instruction": "Hi", "generations": [None, "b"], "ratings": [2, 1]}, "null_field", "chosen"),
    "null instruction": ({"instruction": None, **ANSWERS}, "null_field", "prompt"),
    "history": ({"instruction": "Hi", "history": [["Ho"]], **ANSWERS}, "bad_messages", "history"),
    "history of objects": ({"instruction": "Hi", "history": [{"a": 1}], **ANSWERS}, "bad_messages", "history"),
    "role": ({"conversations": [{"from": "tool", "value": "x"}], **ANSWERS}, "bad_messages", "tool"),
    "role of no text": ({"conversations": [{"from": [], "value": "x"}], **ANSWERS}, "bad_messages", "[]"),
    "no message": ({"conversations": ["Hi"], **ANSWERS}, "bad_messages", "Hi"),
    "answer by the user": ({"messages": turns(USER), **ANSWERS, "chosen": turns(USER)[0]}, "bad_messages", "chosen"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_pair_says_what_was_seen(name: str) -> None:
    columns, reason, seen = BAD[name]
    with pytest.raises(BadRow) as bad:
        read(columns)
    assert bad.value.reason == reason
    assert seen in bad.value.detail
    assert reason in EXPLANATIONS


def test_unknown_columns_are_listed_to_the_user() -> None:
    with pytest.raises(InvalidData, match=r"no chosen and no rejected among \['query', 'better', 'worse'\]"):
        prepare_pairs(rows_in_memory([{"query": "Hi", "better": "Yes.", "worse": "No."}]))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_may_name_answers_otherwise(tmp_path: Any, suffix: str) -> None:
    rows = [{"instruction": "Hi", "chosen_response": "Yes.", "rejected_response": "No.", "kind": "x"}]
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        path.write_text(",".join(rows[0]) + "\n" + ",".join(rows[0].values()) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    (pair,) = prepare_pairs(path).pairs
    assert (pair.prompt, pair.chosen, pair.rejected, pair.meta) == ((USER,), (YES,), (NO,), {"kind": "x"})


def test_columns_that_a_pair_is_made_of_are_not_called_dropped() -> None:
    rows = [SEVERAL_TURNS["distilabel, chat"] | {"tags": []}]
    assert prepare_pairs(rows_in_memory(rows)).dropped_columns == ("tags",)


def test_a_further_column_named_system_reads_back_as_one(tmp_path: Any) -> None:
    pair = plain_pair(0, "Hi", "Yes.", "No.", source="s", source_row=0, meta={"system": "windows"})
    write_pairs([pair], tmp_path / "pairs.jsonl")
    assert list(prepare_pairs(tmp_path / "pairs.jsonl").pairs) == [pair]
