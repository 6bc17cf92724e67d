"""Export, then import: the same pairs, in every format; what a format cannot hold is left out and counted."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.data.checks import EXPLANATIONS
from smidgen.data.export import Exported, Origin, export_format, export_pairs, write
from smidgen.data.export.columns import RESERVED, meta_columns
from smidgen.data.prepare import prepare_pairs
from smidgen.data.shapes import HH_TURN
from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import Message, PreferencePair, messages_from, plain_pair

ORIGIN = Origin(sources=["pairs.jsonl"])
ANY_TURNS = ["trl", "openrlhf", "axolotl", "huggingface"]
ONE_TURN = [f"{name}:template=verbatim" for name in ANY_TURNS]
ALTERNATING = ["llama_factory", "llama_factory:formatting=alpaca"]
HOSTILE = [
    "=HYPERLINK(1)",
    "a\r\nb\rc\n",
    "\u2028\u2029\x85\x1f\x7f",
    "\ufeffx",
    '"},\n{"',
    '[{"role": "user", "content": "x"}]',
    "\n\nHuman: Hi\n\nAssistant: Yes.",
    "<script>|</td>`---\n#",
    "한😀",
    "x" * 20_000,
]
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(str.strip)
text = text | st.sampled_from(HOSTILE)
scalar = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def tables(draw: st.DrawFn, *, rounds: int = 2, system: bool = True, free: bool = False) -> list[PreferencePair]:
    """Pairs with distinct idx and texts; columns of one type each; `free`: turns in any order."""
    idxs = draw(st.lists(st.integers(0, 2**63 - 1), unique=True, min_size=1, max_size=4))
    kinds = draw(st.dictionaries(text.filter(lambda name: name not in RESERVED), st.sampled_from([0, 1]), max_size=2))
    pairs = []
    for place, idx in enumerate(idxs):
        earlier = draw(st.lists(st.tuples(text, text), max_size=rounds))
        turns = [Message(role, t) for both in earlier for role, t in zip(("user", "assistant"), both, strict=True)]
        if free:
            roles = st.sampled_from(["user", "assistant", "system"])
            turns += draw(st.lists(st.builds(Message, roles, text | st.just("")), max_size=2))
        first = [Message("system", draw(text))] if system and draw(st.booleans()) else []
        answer = draw(text)
        pairs.append(
            PreferencePair(
                idx=idx,
                prompt=(*first, *turns, Message("user", f"{draw(text)}{place}")),
                chosen=messages_from(answer, "assistant"),
                rejected=messages_from(answer + draw(text), "assistant"),
                source=draw(text),
                source_row=draw(st.integers(0, 10**6)),
                meta={name: draw(text | st.none() if kind else scalar) for name, kind in kinds.items()},
            )
        )
    return pairs


def back(pairs: list[PreferencePair], spec: str, folder: Path) -> tuple[list[PreferencePair], set[int | None]]:
    """What is read from the folder that was written, and the idx of what was left out."""
    exported = export_pairs(pairs, spec, name="made", origin=ORIGIN)
    exported.write(folder)
    return list(prepare_pairs(folder, max_bad_fraction=0.0).pairs), {row.idx for row in exported.left_out}


def files_of(exported: Exported) -> dict[str, bytes]:
    """Every file's content by its path."""
    with TemporaryDirectory() as folder:
        sizes = exported.write(Path(folder))
        files = {path: (Path(folder) / path).read_bytes() for path in sizes}
    assert exported.write(None) == sizes == {path: len(content) for path, content in files.items()}
    return files


def same(pairs: list[PreferencePair]) -> list[tuple[object, ...]]:
    """All of a pair; columns of several kinds are text after the way through a table."""
    as_text = set(meta_columns(pairs).as_text)
    found = []
    for p in pairs:
        meta = tuple((k, str(v) if k in as_text and v is not None else v) for k, v in sorted(p.meta.items()))
        found.append((p.idx, p.prompt, p.chosen, p.rejected, p.source, p.source_row, meta))
    return found


@pytest.mark.parametrize("spec", ANY_TURNS)
@settings(max_examples=25)
@given(pairs=tables(free=True))
def test_every_conversation_comes_back(spec: str, pairs: list[PreferencePair], tmp_path_factory) -> None:
    found, left_out = back(pairs, spec, tmp_path_factory.mktemp("round"))
    assert same(found) == same(pairs)
    assert not left_out


@pytest.mark.parametrize("spec", ALTERNATING)
@settings(max_examples=25)
@given(pairs=tables())
def test_conversations_in_turn_come_back(spec: str, pairs: list[PreferencePair], tmp_path_factory) -> None:
    # Without a prompt column, two texts in hh-rlhf's form are dialogues to whoever reads them.
    hh = {p.idx for p in pairs if HH_TURN.search(p.chosen_text)} if spec.endswith("alpaca") else set()
    if len(hh) == len(pairs):
        return
    found, left_out = back(pairs, spec, tmp_path_factory.mktemp("round"))
    assert left_out == hh
    kept = [pair for pair in pairs if pair.idx not in hh]
    assert same(found) == same(kept)


@pytest.mark.parametrize("spec", ONE_TURN)
@settings(max_examples=25)
@given(pairs=tables(rounds=0, system=False))
def test_texts_come_back(spec: str, pairs: list[PreferencePair], tmp_path_factory) -> None:
    found, left_out = back(pairs, spec, tmp_path_factory.mktemp("round"))
    assert same(found) == same(pairs)
    assert not left_out


def test_every_format_is_under_the_laws() -> None:
    named = {spec.partition(":")[0] for spec in (*ANY_TURNS, *ALTERNATING)}
    assert named == set(export_format.names()), "a new format belongs to one of the lists at the top of this file"


@pytest.mark.parametrize("spec", export_format.names())
def test_equal_pairs_are_equal_files(spec: str) -> None:
    pairs = [plain_pair(i, f"q{i}", "a", "b", meta={"n": i}) for i in range(3)]
    files = [files_of(export_pairs(pairs, spec, name="made", origin=ORIGIN)) for _ in range(2)]
    assert files[0] == files[1]
    assert "README.md" in files[0]


SEVERAL = plain_pair(1, "Hi", "Yes.", "No.")
SYSTEM = Message("system", "Be kind.")
TWICE = (Message("user", "Hi"), Message("user", "Hi"))


@pytest.mark.parametrize(
    ("spec", "prompt"),
    [
        *((spec, (SYSTEM, Message("user", "Hi"))) for spec in ONE_TURN),
        *((spec, TWICE) for spec in ALTERNATING),
        *((spec, (SYSTEM, SYSTEM, Message("user", "Hi"))) for spec in ALTERNATING),
        ("llama_factory:formatting=alpaca", (Message("system", ""), Message("user", "Hi"))),
    ],
)
def test_what_a_format_cannot_hold_is_left_out_and_named(spec: str, prompt: tuple[Message, ...]) -> None:
    other = PreferencePair(idx=2, prompt=prompt, chosen=SEVERAL.chosen, rejected=SEVERAL.rejected)
    exported = export_pairs([SEVERAL, other], spec, name="made", origin=ORIGIN)
    assert [(row.idx, row.reason) for row in exported.left_out] == [(2, "not_expressible")]
    assert len(exported.pairs) == 1
    assert EXPLANATIONS["not_expressible"] in files_of(exported)["README.md"].decode()
    with pytest.raises(InvalidData, match=r"none of 1: 1 not_expressible .*idx 2.*Take another format"):
        export_pairs([other], spec, name="made", origin=ORIGIN)


@pytest.mark.parametrize("spec", export_format.names())
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (plain_pair(2, "Hi", "Yes\ud83d", "No."), "lone_surrogate"),
        (plain_pair(2, "Hi", "Yes", "No\0"), "nul_character"),
        (plain_pair(2, "Hi", "Yes", "No", source="\udfff"), "lone_surrogate"),
        (plain_pair(2, "Hi", "Yes", "No", meta={"\udfff": 1}), "lone_surrogate"),
        (plain_pair(2, "Hi", "Yes", "Yes"), "equal_answers"),
        (plain_pair(2, "Hi", " ", "Yes"), "empty_field"),
    ],
)
def test_what_no_file_may_hold_is_left_out_and_named(spec: str, bad: PreferencePair, reason: str) -> None:
    exported = export_pairs([SEVERAL, bad], spec, name="made", origin=ORIGIN)
    assert [(row.idx, row.reason) for row in exported.left_out] == [(2, reason)]
    json.dumps(exported.left_out[0].detail).encode()
    with pytest.raises(InvalidData, match=reason):
        export_pairs([bad], spec, name="made", origin=ORIGIN)


def test_a_line_too_long_to_be_read_back_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "MAX_FIELD_CHARACTERS", 1000)
    long = plain_pair(2, "Hi", "ä" * 600, "No.")
    left_out = export_pairs([SEVERAL, long], "trl", name="m", origin=ORIGIN).left_out
    assert [row.reason for row in left_out] == ["huge_field"]
    assert not export_pairs([SEVERAL, long], "huggingface", name="m", origin=ORIGIN).left_out


def test_no_pairs_are_refused() -> None:
    with pytest.raises(InvalidData, match="expected at least one pair to export, got none"):
        export_pairs([], "trl", name="made", origin=ORIGIN)


def test_names_that_mean_something_else_are_renamed_and_said(tmp_path: Path) -> None:
    pair = plain_pair(1, "Hi", "Yes.", "No.", meta={"system": "linux", "label": 1, "label_": 2})
    exported = export_pairs([pair], "trl", name="made", origin=ORIGIN)
    assert exported.meta.renamed == {"system": "system_", "label": "label__"}
    exported.write(tmp_path / "made")
    (found,) = prepare_pairs(tmp_path / "made").pairs
    assert found.meta == {"system_": "linux", "label__": 1, "label_": 2}
    assert found.prompt == pair.prompt
    assert "column system is here system" in files_of(exported)["README.md"].decode()


def test_columns_of_several_kinds_are_text_and_said() -> None:
    pairs = [plain_pair(i, f"q{i}", "a", "b", meta={"n": n, "m": i + 0.5}) for i, n in enumerate([1, "one", None])]
    exported = export_pairs(pairs, "trl", name="made", origin=ORIGIN)
    assert exported.meta.as_text == ("n",)
    rows = [json.loads(line) for line in files_of(exported)["train.jsonl"].splitlines()]
    assert [(row["n"], row["m"]) for row in rows] == [("1", 0.5), ("one", 1.5), (None, 2.5)]
    assert "n" not in json.loads(
        files_of(export_pairs(pairs, "trl", name="m", origin=ORIGIN, keep_meta=False))["train.jsonl"].splitlines()[0]
    )


def test_a_template_writes_what_the_engine_would_train_on() -> None:
    pair = PreferencePair(
        idx=0,
        prompt=(SYSTEM, Message("user", "Hi")),
        chosen=messages_from("Yes.", "assistant"),
        rejected=messages_from("No.", "assistant"),
    )
    row = json.loads(files_of(export_pairs([pair], "trl:template=hh", name="m", origin=ORIGIN))["train.jsonl"])
    assert row["prompt"] == "\n\nSystem: Be kind.\n\nHuman: Hi\n\nAssistant:"
    assert (row["chosen"], row["rejected"]) == (" Yes.", " No.")


def test_what_peers_are_told_is_what_stands_there() -> None:
    files = files_of(export_pairs([SEVERAL], "llama_factory", name="made", origin=ORIGIN))
    entry = json.loads(files["dataset_info.json"])["made"]
    (row,) = json.loads(files[entry["file_name"]])
    assert entry["ranking"] is True
    assert entry["formatting"] == "sharegpt"
    assert set(entry["columns"].values()) <= row.keys()
    files = files_of(export_pairs([SEVERAL], "llama_factory:formatting=alpaca", name="made", origin=ORIGIN))
    entry = json.loads(files["dataset_info.json"])["made"]
    assert set(entry["columns"].values()) <= json.loads(files[entry["file_name"]])[0].keys()
    files = files_of(export_pairs([SEVERAL], "axolotl", name="made", origin=ORIGIN))
    (dataset,) = yaml.safe_load(files["axolotl.yaml"])["datasets"]
    row = json.loads(files[dataset["path"]])
    assert {dataset[f"field_{name}"] for name in ("messages", "chosen", "rejected")} <= row.keys()
    assert row["chosen"] == {"role": "assistant", "content": "Yes."}
    for spec in ("openrlhf", "openrlhf:template=plain"):
        card = files_of(export_pairs([SEVERAL], spec, name="made", origin=ORIGIN))["README.md"].decode()
        assert ("--data.apply_chat_template" in card) == (spec == "openrlhf")
        assert "--data.prompt_key prompt --data.chosen_key chosen" in card


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("csv", "unknown format 'csv'; expected one of: axolotl, huggingface, llama_factory, openrlhf, trl"),
        ("trl:temple=plain", "no such setting.*Its settings: template"),
        ("trl:template=chat", "plain, hh or verbatim, got chat.*leave template out"),
        ("trl:template=fancy", "unknown template 'fancy'"),
        ("llama_factory:formatting=openai", "format llama_factory: formatting"),
    ],
)
def test_a_format_that_is_none_says_which_are(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export_pairs([SEVERAL], spec, name="made", origin=ORIGIN)


@pytest.mark.parametrize("license", ["", "MIT", "my licence", "mit\nx: 1", "../x"])
def test_a_licence_is_an_identifier(license: str) -> None:
    with pytest.raises(UsageError, match="expected a licence's identifier"):
        Origin(sources=["a"], license=license)


HOSTILE_NAME = "a`b\n---\nlicense: mit\n<script>alert(1)</script>|[x](y)"


def test_a_cards_text_is_data(tmp_path: Path) -> None:
    origin = Origin(sources=[HOSTILE_NAME], how=HOSTILE_NAME, facts={HOSTILE_NAME: HOSTILE_NAME}, limits=[HOSTILE_NAME])
    card = files_of(export_pairs([SEVERAL], "trl", name="made", origin=origin))["README.md"].decode()
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert "license" not in yaml.safe_load(head)
    assert "\n---\n" not in body
    code = "`ab --- license: mit <script>alert(1)</script>|[x](y)`"
    assert body.count(code) == 1
    assert "<script>" not in body.replace(code, "")
    assert "[x](y)" not in body.replace(code, "")


def as_one_table(pairs: list[PreferencePair], spec: str) -> bytes:
    """The data file by the plain way: all rows, then all columns, then all bytes."""
    layout = export_format.bind(spec)("demo")
    meta = meta_columns(pairs).values
    beside = [{"idx": p.idx, "source": p.source, "source_row": p.source_row} for p in pairs]
    further = [{name: values[i] for name, values in meta.items()} for i in range(len(pairs))]
    rows = [{"idx": p.idx} | layout.row(p) | b | f for p, b, f in zip(pairs, beside, further, strict=True)]
    table = pa.Table.from_pylist(rows)
    table = table.cast(pa.schema([(f.name, pa.string() if f.type == pa.null() else f.type) for f in table.schema]))
    if layout.path.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return sink.getvalue().to_pybytes()
    lines = [json.dumps(row, ensure_ascii=False) for row in table.to_pylist()]
    return ("\n".join(lines) + "\n" if layout.path.endswith(".jsonl") else "[\n" + ",\n".join(lines) + "\n]\n").encode()


@pytest.mark.parametrize("spec", [*ANY_TURNS, "llama_factory"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=tables())
def test_rows_written_as_they_are_made_are_the_bytes_of_one_table(
    spec: str, pairs: list[PreferencePair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_BLOCK", 2)
    files = files_of(export_pairs(pairs, spec, name="demo", origin=ORIGIN))
    path = next(path for path in files if path.startswith(("train.", "data/")))
    assert files[path] == as_one_table(pairs, spec)


@pytest.mark.parametrize("spec", sorted(export_format.names()))
def test_blocks_change_nothing(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first block alone would give `late` no type, and `score` that of whole numbers.
    metas = [{"score": 1, "late": None}, {"score": 2, "late": None}, {"score": 0.5, "late": "x"}, {"score": None}]
    pairs = [plain_pair(i, f"q{i}", "yes", f"no {i}", meta=meta) for i, meta in enumerate(metas)]
    whole, at_once = files_of(export_pairs(pairs, spec, name="demo", origin=ORIGIN)), back(pairs, spec, tmp_path / "1")
    monkeypatch.setattr(write, "_BLOCK", 2)
    blocks = files_of(export_pairs(pairs, spec, name="demo", origin=ORIGIN))
    assert same(back(pairs, spec, tmp_path / "blocks")[0]) == same(at_once[0])
    assert {p: c for p, c in blocks.items() if p != "README.md"} == {p: c for p, c in whole.items() if p != "README.md"}


@pytest.mark.parametrize("spec", ["trl", "llama_factory"])
def test_a_file_of_rows_takes_no_memory_for_each(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_BLOCK", 100)
    peaks = []
    for n in (300, 1200):
        exported = export_pairs(
            [plain_pair(i, f"q{i}", "a" * 500, "b") for i in range(n)], spec, name="m", origin=ORIGIN
        )
        tracemalloc.start()
        exported.write(None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
