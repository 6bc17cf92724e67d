import pytest

from smidgen.data.checks import EXPLANATIONS, BadRow
from smidgen.data.rows import pair_from_row, split_dialogue, whole_number
from smidgen.pairs import Message, messages_from

USER, ANSWER, OTHER = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes."},
    {"role": "assistant", "content": "No."},
)
HH = "\n\nHuman: Hi\n\nAssistant: Yes.\n\nHuman: Then?\n\nAssistant: I can help."
PLACE = {"idx": 5, "source": "file.jsonl", "source_row": 3}


def read(**columns):
    return pair_from_row(columns, **PLACE)


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": "Hi", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]},
        {"prompt": "Hi", "chosen": [ANSWER], "rejected": "No."},
        {"chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        {"prompt": "Hi", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        {"prompt": [USER], "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."},
    ],
)
def test_every_shape_is_the_same_pair(columns):
    pair = read(**columns)
    assert (pair.idx, pair.prompt_text, pair.chosen_text, pair.rejected_text) == (5, "Hi", "Yes.", "No.")
    assert (pair.source, pair.source_row, pair.meta) == ("file.jsonl", 3, {})


def test_answers_that_open_alike_stay_whole():
    pair = read(chosen=HH, rejected=HH.replace("I can help.", "I cannot."))
    assert (pair.chosen_text, pair.rejected_text) == ("I can help.", "I cannot.")
    assert pair.prompt == (Message("user", "Hi"), Message("assistant", "Yes."), Message("user", "Then?"))


def test_a_system_turn_and_empty_earlier_turns_are_kept():
    system = {"role": "system", "content": "Be kind."}
    empty = {"role": "assistant", "content": ""}
    pair = read(prompt=[system, USER, empty, USER], chosen="Yes.", rejected="No.")
    assert [m.role for m in pair.prompt] == ["system", "user", "assistant", "user"]


def test_a_texts_own_white_space_stays():
    prompt, answer = split_dialogue("\n\nHuman:  Hi \n\nAssistant: Yes.\n", "chosen")
    assert (prompt, answer) == (messages_from(" Hi ", "user"), messages_from("Yes.\n", "assistant"))


def test_own_source_and_further_columns_are_kept():
    pair = read(
        prompt="Hi",
        chosen="Yes.",
        rejected="No.",
        source="hh",
        source_row=9,
        kind="x",
        score=1.5,
        flag=True,
        none=None,
        tags=["dropped"],
        far=float("inf"),
    )
    assert (pair.source, pair.source_row) == ("hh", 9)
    assert pair.meta == {"kind": "x", "score": 1.5, "flag": True, "none": None, "far": None}


PAIR = {"prompt": "Hi", "chosen": "Yes.", "rejected": "No."}
BAD = {
    "missing chosen": ({"prompt": "Hi", "rejected": "No."}, "missing_column"),
    "missing both": ({"prompt": "Hi", "answer": "No."}, "missing_column"),
    "null": (PAIR | {"chosen": None}, "null_field"),
    "null prompt": (PAIR | {"prompt": None}, "null_field"),
    "empty": (PAIR | {"rejected": ""}, "empty_field"),
    "white space": (PAIR | {"prompt": " \n"}, "empty_field"),
    "integer": (PAIR | {"chosen": 3}, "not_text"),
    "object": (PAIR | {"chosen": {"text": "Yes."}}, "not_text"),
    "NUL": (PAIR | {"chosen": "Y\0s"}, "nul_character"),
    "surrogate": (PAIR | {"rejected": "\udfff"}, "lone_surrogate"),
    "surrogate in meta": (PAIR | {"note": "\udfff"}, "lone_surrogate"),
    "surrogate in a name": (PAIR | {"\udfff": 1}, "lone_surrogate"),
    "surrogate in a source": (PAIR | {"source": "\udfff"}, "lone_surrogate"),
    "equal": (PAIR | {"chosen": "No."}, "equal_answers"),
    "no dialogue": ({"chosen": "Yes.", "rejected": "No."}, "no_prompt"),
    "answer alone": ({"chosen": [ANSWER], "rejected": [OTHER]}, "no_prompt"),
    "prompts differ": ({"chosen": HH, "rejected": HH.replace("Then?", "Now?")}, "prompts_differ"),
    "lengths differ": ({"chosen": HH, "rejected": "\n\nHuman: Hi\n\nAssistant: Yes."}, "prompts_differ"),
    "message prompts differ": ({"chosen": [USER, ANSWER], "rejected": [USER, USER, OTHER]}, "prompts_differ"),
    "other prompt column": (
        PAIR | {"prompt": "Ho", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        "prompts_differ",
    ),
    "human turn last": ({"chosen": HH + "\n\nHuman: Thanks", "rejected": HH}, "ends_in_human_turn"),
    "user turn last": ({"chosen": [USER, ANSWER, USER], "rejected": [USER, OTHER]}, "ends_in_human_turn"),
    "human turn only": ({"chosen": "\n\nHuman: Hi", "rejected": HH}, "ends_in_human_turn"),
    "empty answer": ({"chosen": "\n\nHuman: Hi\n\nAssistant:", "rejected": HH}, "empty_field"),
    "empty last prompt": ({k: f"\n\nHuman: \n\nAssistant: {k}" for k in ("chosen", "rejected")}, "empty_field"),
    "two assistant turns": (
        {k: f"\n\nHuman: Hi\n\nAssistant: Yes.\n\nAssistant: {k}" for k in ("chosen", "rejected")},
        "bad_messages",
    ),
    "text before": ({"chosen": "Well." + HH, "rejected": HH}, "bad_messages"),
    "prompt ends in an answer": (PAIR | {"prompt": [USER, ANSWER]}, "bad_messages"),
    "answer of two turns": (PAIR | {"chosen": [ANSWER, OTHER]}, "bad_messages"),
    "unknown role": (PAIR | {"prompt": [{"role": "tool", "content": "x"}]}, "bad_messages"),
    "no content": (PAIR | {"prompt": [{"role": "user"}]}, "bad_messages"),
    "null content": (PAIR | {"prompt": [{"role": "user", "content": None}]}, "null_field"),
    "content of parts": (PAIR | {"prompt": [{"role": "user", "content": ["Hi"]}]}, "not_text"),
    "list of texts": (PAIR | {"prompt": ["Hi"]}, "bad_messages"),
    "empty list": (PAIR | {"chosen": []}, "empty_field"),
    "a list": (["Hi", "Yes.", "No."], "not_an_object"),
    "a text": ("Hi", "not_an_object"),
    "null row": (None, "not_an_object"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_has_its_reason_and_a_printable_detail(name):
    columns, reason = BAD[name]
    with pytest.raises(BadRow) as bad:
        pair_from_row(columns, **PLACE)
    assert bad.value.reason == reason
    assert reason in EXPLANATIONS
    assert bad.value.detail.encode()


@pytest.mark.parametrize(("value", "number"), [(0, 0), (7, 7), ("7", 7), ("07", 7), (2**63 - 1, 2**63 - 1)])
def test_whole_numbers_are_also_read_from_text(value, number):
    assert whole_number(value) == number


@pytest.mark.parametrize("value", [-1, "-1", True, 1.0, "1.0", "", None, 2**63, "9" * 5000, "٣", [1]])
def test_all_else_is_no_whole_number(value):
    assert whole_number(value) is None
