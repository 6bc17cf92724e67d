import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import csv_tables, readers
from smidgen.data.checks import BadRow
from smidgen.data.readers import read_records, read_utf8
from smidgen.errors import InvalidData, UsageError

GOOD = b'{"chosen": "a", "rejected": "b"}'
VALUE = {"chosen": "a", "rejected": "b"}


def read(path):
    """(line, value, or the reason why there is none) of every record."""
    return [(line, v.reason if isinstance(v, BadRow) else v) for line, v in read_records(path)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"chosen": "a", "rejected": "b', "malformed_json"),
        (b'{"chosen": "a" "rejected": "b"}', "malformed_json"),
        (b"chosen,rejected", "malformed_json"),
        (b'{"chosen": NaN, "rejected": "b"}', "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'{"chosen": "a", "rejected": "b", "n": ' + b"9" * 5000 + b"}", "malformed_json"),
        (b'{"chosen": "a", "chosen": "x", "rejected": "b"}', "duplicate_key"),
        (b'{"chosen": [{"role": "user", "role": "x"}], "rejected": "b"}', "duplicate_key"),
        ('{"chosen": "ä", "rejected": "b"}'.encode("latin-1"), "wrong_encoding"),
        (b'{"chosen": "\xed\xa0\x80", "rejected": "b"}', "wrong_encoding"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_costs_itself_alone(tmp_path, line, reason, place):
    lines = [GOOD, GOOD]
    lines.insert(place, line)
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert read(path) == [(i + 1, reason if i == place else VALUE) for i in range(3)]


def test_a_truncated_last_line_says_so(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(GOOD + b"\n" + GOOD[:-8])
    (_, bad) = list(read_records(path))[1]
    assert "may be truncated" in bad.detail


def test_blank_lines_and_a_byte_order_mark_are_no_records(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n  \n" + GOOD + b"\n\n")
    assert read(path) == [(1, VALUE), (4, VALUE)]


def test_a_damaged_gzip_keeps_what_came_before(tmp_path):
    rows = [{"chosen": str(i), "rejected": "b" * (i % 7)} for i in range(5000)]
    packed = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    *before, last = [value for _, value in read(path)]
    assert last == "truncated_file"
    assert before == rows[: len(before)]
    assert len(before) > 1000


def test_gzip_is_known_by_its_bytes(tmp_path):
    (tmp_path / "named.jsonl.gz").write_bytes(GOOD)
    (tmp_path / "unnamed.jsonl").write_bytes(gzip.compress(GOOD))
    assert read(tmp_path / "named.jsonl.gz") == read(tmp_path / "unnamed.jsonl") == [(1, VALUE)]


@pytest.mark.parametrize("length", [50, 99, 100, 101, 250, 300])
def test_a_huge_line_costs_itself_alone(tmp_path, monkeypatch, length):
    monkeypatch.setattr(readers, "MAX_FIELD_CHARACTERS", 100)
    path = tmp_path / "pairs.jsonl"
    huge = b'{"chosen": "' + b"a" * (length - 14) + b'"}'
    path.write_bytes(GOOD + b"\n" + huge + b"\n" + GOOD)
    values = read(path)
    assert [line for line, _ in values] == [1, 2, 3]
    assert values[2][1] == VALUE
    assert (values[1][1] == "huge_field") == (length >= 100)


BAD_ELEMENTS = [
    (b'{"chosen": "a", "chosen": "b"}', "duplicate_key"),
    (b'{"chosen": a}', "malformed_json"),
    (b'{"chosen": "\xff"}', "wrong_encoding"),
]


@pytest.mark.parametrize(("element", "reason"), BAD_ELEMENTS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_element_of_a_json_list_costs_itself_alone(tmp_path, element, reason, place):
    elements = [GOOD, GOOD]
    elements.insert(place, element)
    path = tmp_path / "pairs.json"
    path.write_bytes(b"[\n" + b",\n".join(elements) + b"\n]\n")
    values = read(path)
    assert values[:3] == [(i + 2, reason if i == place else VALUE) for i in range(3)]
    # After a last element that cannot be read, nothing says where the list ends.
    assert [v for _, v in values[3:]] == (["malformed_json"] if place == 2 and reason != "wrong_encoding" else [])


def test_a_truncated_json_list_keeps_what_came_before(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_bytes(b"[" + GOOD + b",\n" + GOOD + b",\n" + GOOD[:10])
    assert [v for _, v in read(path)][:3] == [VALUE, VALUE, "malformed_json"]
    path.write_bytes(b"[" + GOOD + b",\n" + GOOD)
    assert read(path) == [(1, VALUE), (2, VALUE), (2, "malformed_json")]


def test_a_json_file_may_hold_one_object_a_line(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_bytes(GOOD + b"\n" + GOOD)
    assert read(path) == [(1, VALUE), (2, VALUE)]


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"chosen": text, "rejected": text}), min_size=1, max_size=4))
def test_every_format_gives_back_what_was_written(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("formats")
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "a.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["chosen", "rejected"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    for name in ("a.jsonl", "a.json", "a.parquet", "a.csv"):
        assert [value for _, value in read(folder / name)] == rows


def test_a_bad_csv_record_costs_itself_alone(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(b'chosen,rejected\na,b\n"two\nlines",b\na,b,c\n"a"x,b\n\xe4,b\n\na,b\n"never closed,b')
    assert read(path) == [
        (2, VALUE),
        (3, {"chosen": "two\nlines", "rejected": "b"}),
        (5, "malformed_csv"),
        (6, "malformed_csv"),
        (7, "wrong_encoding"),
        (9, VALUE),
        (10, "malformed_csv"),
    ]


def test_a_csv_cell_may_hold_messages(tmp_path):
    path = tmp_path / "pairs.csv"
    messages = [{"role": "assistant", "content": "Well."}]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["chosen", "rejected"], [json.dumps(messages), '[{"a": 1}]'], ["[{", "b"]])
    assert read(path) == [
        (2, {"chosen": messages, "rejected": '[{"a": 1}]'}),
        (3, {"chosen": "[{", "rejected": "b"}),
    ]


def test_a_csv_quote_that_is_never_closed_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_tables, "MAX_FIELD_CHARACTERS", 100)
    before = csv.field_size_limit()
    path = tmp_path / "pairs.csv"
    path.write_bytes(b'chosen,rejected\na,b\n"' + b"a,b\n" * 50)
    with pytest.raises(
        InvalidData, match=r"line 3: expected cells up to 100 characters.*A quote is probably never closed"
    ):
        read(path)
    assert csv.field_size_limit() == before


def test_parquet_rows_that_are_not_utf8_cost_themselves_alone(tmp_path):
    path = tmp_path / "pairs.parquet"
    broken = pa.array([b"a", b"\xff", b"a"]).view(pa.string())
    pq.write_table(pa.table({"chosen": broken, "rejected": ["b"] * 3}), path)
    assert read(path) == [(1, VALUE), (2, "wrong_encoding"), (3, VALUE)]


def test_tables_values_are_those_of_json(tmp_path):
    from datetime import date
    from decimal import Decimal

    path = tmp_path / "pairs.parquet"
    columns = {"d": [date(2026, 1, 2)], "n": [Decimal("1.5")], "f": [float("nan")], "z": [None]}
    pq.write_table(pa.table({"chosen": ["a"], "rejected": ["b"], **columns}), path)
    assert read(path)[0][1] == VALUE | {"d": "2026-01-02", "n": "1.5", "f": None, "z": None}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "expected at least one record, got an empty file; remove it"),
        ("a.jsonl", b"\n \n", "expected at least one record"),
        ("a.jsonl.gz", gzip.compress(b""), "expected at least one record"),
        ("a.json", b"[ ]", "expected at least one record"),
        ("a.csv", b"chosen,rejected\n", "expected at least one record"),
        (
            "a.csv",
            b"question,answer\na,b\n",
            "expected the columns chosen, rejected, got question, answer; chosen, rejected missing",
        ),
        ("a.csv", b"chosen,x\na,b\n", "rejected missing. Rename"),
        ("a.csv", b"chosen,rejected,n,n\na,b,1,2\n", "expected distinct columns, got n twice"),
        ("a.csv", b"chosen,rejected,\xff\na,b,1\n", "expected a CSV header in UTF-8"),
        ("a.csv", b'"a"b,c\n', "expected a CSV header, got"),
        ("a.parquet", b"not parquet", "expected a Parquet file, got one that cannot be read"),
        ("a.jsonl", GOOD.decode().encode("utf-16"), "expected UTF-8, got UTF-16; save it as UTF-8"),
    ],
)
def test_a_file_without_usable_records_says_what_to_do(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_an_empty_parquet_and_one_without_the_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"chosen": pa.array([], pa.string()), "rejected": pa.array([], pa.string())}), path)
    with pytest.raises(InvalidData, match="at least one record"):
        read(path)
    pq.write_table(pa.table({"chosen": ["a"]}), path)
    with pytest.raises(InvalidData, match="rejected missing"):
        read(path)


def test_an_unknown_suffix_lists_the_known(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"\.jsonl, \.json, \.csv, \.parquet .*got '\.xlsx'"):
        read(path)


def test_a_text_file_is_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Bäume\n", encoding="utf-8")
    assert read_utf8(path) == "Bäume\n"
    path.write_bytes("Bäume".encode("latin-1"))
    with pytest.raises(InvalidData, match="expected text in UTF-8, got other bytes at 1"):
        read_utf8(path)
