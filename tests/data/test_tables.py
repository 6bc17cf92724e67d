import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.prepare import prepare_pairs
from smidgen.data.tables import neutralise, write_subset
from smidgen.pairs import Message, PreferencePair, messages_from, plain_pair

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)
awkward = st.sampled_from(['"', "a,b", "a\rb", "a\r\nb", "\na\n", "=1+1", "-1.5", "'", '""', "\ta", "[{", "\ufeffa"])


def read(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file, strict=True))


@settings(deadline=None)
@given(st.lists(st.tuples(text | awkward, text | awkward, text | awkward), max_size=5))
def test_texts_come_back_exactly(tmp_path_factory, texts):
    pairs = [plain_pair(10 - i, *three) for i, three in enumerate(texts)]
    folder = tmp_path_factory.mktemp("subset")
    exact, _ = write_subset(folder, pairs, {"rank": range(len(pairs))})
    rows = read(exact)
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in rows] == texts
    assert [(int(row["idx"]), int(row["rank"])) for row in rows] == [(10 - i, i) for i in range(len(texts))]


def test_a_subset_loads_as_the_same_pairs(tmp_path):
    dialogue = PreferencePair(
        idx=9,
        prompt=(Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "=1")),
        chosen=messages_from("a\r\nb", "assistant"),
        rejected=messages_from("-", "assistant"),
        source="s",
        source_row=3,
    )
    pairs = [dialogue, plain_pair(2, '[{"role": 1}]', "[{", "x", source="t", source_row=0)]
    exact, _ = write_subset(
        tmp_path, pairs, {"source": [p.source for p in pairs], "source_row": [p.source_row for p in pairs]}
    )
    assert list(prepare_pairs(exact).pairs) == pairs


def test_the_header_is_plain(tmp_path, pair):
    exact, spreadsheet = write_subset(tmp_path, [pair], {"reason": ["=why"]})
    assert exact.read_bytes().startswith(b"idx,prompt,chosen,rejected,reason\n")
    assert spreadsheet.read_bytes().startswith(b"\xef\xbb\xbfidx,prompt,chosen,rejected,reason\n")
    assert (exact.name, spreadsheet.name) == ("subset.csv", "subset_spreadsheet.csv")


@pytest.mark.parametrize("start", list("=+-@\t\r\n＝＋－＠"))
def test_no_cell_of_the_spreadsheet_starts_a_formula(tmp_path, start):
    pairs = [plain_pair(0, f"{start}cmd|' /C calc'!A0", f"{start}1+1", f"x{start}")]
    exact, spreadsheet = write_subset(tmp_path, pairs, {"=name": [f"{start}SUM(A1)"]})
    (row,) = read(spreadsheet, "utf-8-sig")
    assert row["prompt"] == "'" + pairs[0].prompt_text
    assert row["chosen"] == "'" + pairs[0].chosen_text
    assert row["rejected"] == pairs[0].rejected_text
    assert row["'=name"] == f"'{start}SUM(A1)"
    assert read(exact)[0]["prompt"] == pairs[0].prompt_text


@pytest.mark.parametrize(
    "number", [-1.5, 3, -2, 1e-7, np.float32(-0.5), np.int64(-4), "-1.5", "+2", "-1e-3", "-.5", "1."]
)
def test_numbers_stay_numbers(tmp_path, pair, number):
    exact, spreadsheet = write_subset(tmp_path, [pair], {"margin": [number]})
    for row in (*read(exact), *read(spreadsheet, "utf-8-sig")):
        assert float(row["margin"]) == float(number)
        assert "'" not in row["margin"]


@pytest.mark.parametrize("text", ["-1-1", "+49 30 1", "-1.5.2", "-", "=5", "-١", "- point"])
def test_what_only_looks_like_a_number_is_text(text):
    assert neutralise(text) == f"'{text}"


def test_missing_values_are_empty_and_flags_are_words(tmp_path, pair):
    _, spreadsheet = write_subset(tmp_path, [pair], {"a": [None], "b": [float("nan")], "c": [np.True_]})
    (row,) = read(spreadsheet, "utf-8-sig")
    assert (row["a"], row["b"], row["c"]) == ("", "", "True")


def test_columns_must_fit(tmp_path, pair):
    with pytest.raises(ValueError, match="1 values, got 2"):
        write_subset(tmp_path, [pair], {"a": [1, 2]})
    with pytest.raises(ValueError, match="a new name"):
        write_subset(tmp_path, [pair], {"idx": [1]})
