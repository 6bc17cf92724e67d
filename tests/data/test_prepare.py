import json
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.checks import EXPLANATIONS
from smidgen.data.prepare import TooManyBadRows, prepare_into, prepare_pairs, write_pairs, write_prepared
from smidgen.data.sources import rows_in_memory
from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import Message, PreferencePair, messages_from

BAD_LINES = [
    b'{"prompt": "p", "chosen"\n',
    b'{"prompt": "p", "chosen": "\xff", "rejected": "b"}\n',
    b'{"prompt": "p", "chosen": "\\ud83d", "rejected": "b"}\n',
    b'{"prompt": "p", "chosen": "a\\u0000", "rejected": "b"}\n',
    b'{"prompt": "p", "chosen": null, "rejected": "b"}\n',
    b'{"prompt": "p", "chosen": "b", "rejected": "b"}\n',
    b'{"prompt": "p", "prompt": "q", "chosen": "a", "rejected": "b"}\n',
]
REASONS = [
    "malformed_json",
    "wrong_encoding",
    "lone_surrogate",
    "nul_character",
    "null_field",
    "equal_answers",
    "duplicate_key",
]


def good_lines(n):
    return [{"prompt": f"question {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(n)]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(BAD_LINES)), min_size=1, max_size=12))
def test_bad_rows_are_all_listed_and_cost_no_good_one(tmp_path_factory, kinds):
    good = iter(good_lines(len(kinds)))
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    path.write_bytes(
        b"".join(BAD_LINES[k] if k < len(BAD_LINES) else json.dumps(next(good)).encode() + b"\n" for k in kinds)
    )
    expected = [(i + 1, i, REASONS[k]) for i, k in enumerate(kinds) if k < len(BAD_LINES)]
    if len(expected) == len(kinds):
        with pytest.raises(TooManyBadRows):
            prepare_pairs(path, max_bad_fraction=1.0)
        return
    prepared = prepare_pairs(path, max_bad_fraction=1.0)
    assert [(q.line, q.idx, q.reason) for q in prepared.quarantine] == expected
    assert prepared.pairs.idxs == [i for i, k in enumerate(kinds) if k == len(BAD_LINES)]
    counts = prepared.counts
    assert counts["rows"] == counts["pairs"] + counts["quarantined"] == len(kinds)
    reasons = Counter(reason for _, _, reason in expected)
    assert {k: v for k, v in counts.items() if k in EXPLANATIONS} == dict(reasons)
    assert prepared.explanations.keys() == reasons.keys()


@pytest.mark.parametrize(("n_bad", "refused"), [(1, False), (2, False), (3, True)])
def test_above_the_fraction_nothing_is_written_but_the_quarantine(write_jsonl, tmp_path, n_bad, refused):
    path = write_jsonl(*good_lines(10 - n_bad), *[b"{\n"] * n_bad)
    out = tmp_path / "out"
    if not refused:
        prepare_into(out, path, max_bad_fraction=0.2)
        assert sorted(p.name for p in out.iterdir()) == ["pairs.jsonl", "quarantine.jsonl", "summary.json"]
        return
    with pytest.raises(InvalidData, match=r"at most 20% bad rows, got 3 of 10: 3 malformed_json .*line 8") as error:
        prepare_into(out, path, max_bad_fraction=0.2)
    assert error.value.exit_code == 3
    assert [p.name for p in out.iterdir()] == ["quarantine.jsonl"]
    lines = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [(x["source"], x["line"], x["idx"], x["reason"]) for x in lines] == [
        ("pairs.jsonl", n, n - 1, "malformed_json") for n in (8, 9, 10)
    ]
    assert all(x.keys() == {"source", "line", "idx", "reason", "detail"} for x in lines)


def test_long_pairs_are_dropped_but_are_not_bad_data(write_jsonl, tokenizer, row):
    long = [row | {"prompt": f"{i} " * 200} for i in range(9)]
    prepared = prepare_pairs(write_jsonl(*long, row), tokenizer=tokenizer, max_length=100, max_bad_fraction=0.0)
    assert prepared.pairs.idxs == [9]
    assert prepared.counts["over_long"] == 9
    with pytest.raises(TooManyBadRows, match="at least one usable pair, got none in 9 rows: 9 over_long"):
        prepare_pairs(write_jsonl(*long), tokenizer=tokenizer, max_length=100)


def test_encoded_are_the_pairs_and_cuts_are_counted(write_jsonl, tokenizer, row):
    same_head = row | {"chosen": "The same words here", "rejected": "The same words there"}
    far_row = row | {"source": "elsewhere", "source_row": 500, "chosen": "x " * 300, "rejected": "x " * 299 + "y"}
    path = write_jsonl(row, b"{\n", same_head, far_row)
    prepared = prepare_pairs(path, tokenizer=tokenizer, answer_head=3, max_bad_fraction=1.0)
    assert [e.idx for e in prepared.encoded] == prepared.pairs.idxs == [0]
    assert prepared.counts["cut_answers"] == 2
    # The line is the one in the file that was read, whatever source the row names.
    assert [(q.source, q.line, q.idx, q.reason) for q in prepared.quarantine] == [
        ("pairs.jsonl", 2, 1, "malformed_json"),
        ("pairs.jsonl", 3, 2, "equal_after_cut"),
        ("pairs.jsonl", 4, 3, "equal_after_cut"),
    ]


def test_repeats_across_sources_are_left_out(write_jsonl, row):
    a, b = write_jsonl(row, name="a.jsonl"), write_jsonl(row, row | {"prompt": "Other"}, name="b.jsonl")
    prepared = prepare_pairs([a, b])
    assert prepared.pairs.idxs == [0, 2]
    assert [(q.source, q.line, q.reason) for q in prepared.quarantine] == [("b.jsonl", 1, "duplicate_pair")]


def test_of_one_idx_the_first_stays(write_jsonl, row):
    path = write_jsonl(row | {"idx": 3}, row | {"idx": 3, "prompt": "Other"}, row | {"idx": 1, "prompt": "Third"})
    prepared = prepare_pairs(path)
    assert prepared.pairs.idxs == [3, 1]
    assert [(q.line, q.reason) for q in prepared.quarantine] == [(2, "duplicate_idx")]


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(str.strip)
turns = st.lists(st.tuples(text, text), max_size=2)
scalar = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | text
)
own = {"idx", "prompt", "chosen", "rejected", "source", "source_row"}


@st.composite
def pairs(draw, idx):
    earlier = tuple(m for q, a in draw(turns) for m in (Message("user", q), Message("assistant", a)))
    system = draw(st.sampled_from([(), (Message("system", "Be kind."),)]))
    answer = draw(text)
    return PreferencePair(
        idx=idx,
        prompt=(*system, *earlier, Message("user", draw(text))),
        chosen=messages_from(answer, "assistant"),
        rejected=messages_from(answer + draw(text), "assistant"),
        source=draw(text),
        source_row=draw(st.integers(0, 10**6)),
        meta=draw(st.dictionaries(text.filter(lambda name: name not in own), scalar, max_size=3)),
    )


@settings(deadline=None)
@given(st.data(), st.lists(st.integers(0, 10**9), unique=True, min_size=1, max_size=4))
def test_prepared_pairs_load_as_themselves(tmp_path_factory, data, idxs):
    folder = tmp_path_factory.mktemp("round")
    table = [data.draw(pairs(idx)) for idx in idxs]
    write_pairs(table, folder / "pairs.jsonl")
    prepared = prepare_pairs(folder / "pairs.jsonl", max_bad_fraction=1.0)
    repeated = {q.idx for q in prepared.quarantine if q.reason == "duplicate_pair"}
    assert list(prepared.pairs) == [p for p in table if p.idx not in repeated]
    write_prepared(prepared, folder / "again")
    assert list(prepare_pairs(folder / "again").pairs) == list(prepared.pairs)


def test_the_summary_explains_what_was_left_out(write_jsonl, tmp_path, row):
    path = write_jsonl(row | {"tags": []}, b"{\n")
    prepared = prepare_into(tmp_path / "out", path)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["counts"] == {"rows": 2, "pairs": 1, "quarantined": 1, "cut_answers": 0, "malformed_json": 1}
    assert summary["explanations"] == {"malformed_json": EXPLANATIONS["malformed_json"]} == prepared.explanations
    assert summary["dropped_columns"] == ["tags"]


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_outside_is_refused(write_jsonl, row, fraction):
    with pytest.raises(UsageError, match="max_bad_fraction from 0 to 1"):
        prepare_pairs(write_jsonl(row), max_bad_fraction=fraction)


def test_hh_rlhf_loses_the_rows_that_are_known_to_be_bad(shared):
    counts = prepare_pairs(shared / "data/hh-rlhf").counts
    assert counts["rows"] == 8552
    bad = {k: v for k, v in counts.items() if k in EXPLANATIONS}
    assert bad == {"prompts_differ": 17, "ends_in_human_turn": 2, "empty_field": 11, "equal_answers": 36}


def test_the_small_world_loads_with_its_own_idx_and_sources(shared):
    path = shared / "data/small-world/pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    table = prepare_pairs(path).pairs
    assert [(p.idx, p.prompt_text, p.chosen_text, p.rejected_text, p.source, p.source_row) for p in table] == [
        tuple(row[k] for k in ("idx", "prompt", "chosen", "rejected", "source", "source_row")) for row in rows
    ]


def test_thirty_thousand_rows_load(shared):
    assert len(prepare_pairs(shared / "data/alpaca-eval-pairs/pairs.jsonl.gz").pairs) > 28_000


def mixed_lines(n):
    """Good rows, rows of several turns, broken lines, repeats and equal answers, as they come."""
    lines = []
    for i in range(n):
        several = f"\n\nHuman: Hi {i}\n\nAssistant: Yes?\n\nHuman: Go on"
        opening = several if i % 3 == 0 else f"\n\nHuman: Question {i - 10 if i % 7 == 0 else i}"
        rejected = "Good." if i % 5 == 0 else "Bad."
        rows = {"chosen": f"{opening}\n\nAssistant: Good.", "rejected": f"{opening}\n\nAssistant: {rejected}"}
        lines.append(b"{broken\n" if i % 11 == 0 else json.dumps(rows).encode() + b"\n")
    return lines


@pytest.mark.parametrize("first", [1, 2, 5, 9, 40])
@pytest.mark.parametrize("n_files", [1, 2])
def test_the_first_pairs_are_the_head_of_all_and_later_rows_are_not_looked_at(write_jsonl, tokenizer, first, n_files):
    lines = mixed_lines(60)
    cut = len(lines) // n_files
    paths = [write_jsonl(*lines[i * cut : (i + 1) * cut], name=f"{i}.jsonl") for i in range(n_files)]
    settings = {"single_turn": True, "max_bad_fraction": 1.0, "tokenizer": tokenizer, "max_length": 30}
    whole, head = prepare_pairs(paths, **settings), prepare_pairs(paths, first=first, **settings)
    assert len(whole.pairs) < 40
    assert list(head.pairs) == list(whole.pairs)[:first]
    assert head.encoded == whole.encoded[:first]
    assert all(len(pair.prompt) == 1 for pair in head.pairs)
    end = (1, 0) if first == 40 else divmod(head.pairs[-1].idx, cut)
    place = {f"{i}.jsonl": i for i in range(n_files)}
    before = [q for q in whole.quarantine if first == 40 or (place[q.source], q.line) < (end[0], end[1] + 1)]
    assert head.quarantine == before
    assert head.counts["rows"] == (len(head.pairs) + len(before) if first < 40 else whole.counts["rows"])


def test_of_rows_that_bring_their_own_idx_the_first_are_kept_too(write_jsonl, row):
    rows = [{**row, "prompt": f"Q{i}", "idx": 100 - i} for i in range(9)]
    assert prepare_pairs(write_jsonl(*rows), first=3).pairs.idxs == [100, 99, 98]


def test_several_turns_are_counted_and_are_not_bad_data(write_jsonl):
    rows = [line for i, line in enumerate(mixed_lines(60)) if i % 3 == 0 and i % 11 and i % 5]
    good = mixed_lines(2)[1:]
    prepared = prepare_pairs(write_jsonl(*rows, *good), single_turn=True, max_bad_fraction=0.0)
    assert prepared.counts["several_turns"] == len(rows) and len(prepared.pairs) == 1
    with pytest.raises(UsageError, match="first of at least 1"):
        prepare_pairs(write_jsonl(*good), first=0)


@pytest.mark.parametrize("first", [None, 2])
def test_rows_in_memory_stay_the_callers(row, first):
    loaded = rows_in_memory([{**row, "prompt": f"Q{i}"} for i in range(4)])
    once, again = (prepare_pairs(loaded, first=first) for _ in range(2))
    assert list(once.pairs) == list(again.pairs) and len(once.pairs) == (first or 4)
    assert len(loaded.rows) == 4


def test_rows_are_not_kept_beside_their_pairs(write_jsonl):
    rows = [
        {"prompt": f"Q{i}", "chosen": "yes", "rejected": "no", **{f"column{j}": j for j in range(20)}}
        for i in range(500)
    ]
    path = write_jsonl(*rows)
    tracemalloc.start()
    pairs = prepare_pairs(path).pairs
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == 500
    assert peak < 1.6 * kept
