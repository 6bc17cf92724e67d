import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.prompts import load_prompts, split_prompts
from smidgen.errors import InvalidData, UsageError

PROMPTS = ["How do I bake bread?", 'Say "hi", please.', "Ünïcode — 你好"]
FORMATS = {
    "p.txt": "\ufeff" + "\r\n".join(PROMPTS) + "\n\n",
    "q.txt": "\n".join(PROMPTS),
    "p.json": json.dumps(PROMPTS, indent=1),
    "q.json": json.dumps([{"prompt": p, "class": 1} for p in PROMPTS]),
    "p.jsonl": "\n".join(json.dumps({"prompt": p}) for p in PROMPTS),
    "q.jsonl": "\n".join(json.dumps(p, ensure_ascii=False) for p in PROMPTS),
    "p.csv": 'n,prompt\n1,How do I bake bread?\n2,"Say ""hi"", please."\n3,Ünïcode — 你好\n',
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_prompts(tmp_path, name, packed):
    content = FORMATS[name].encode()
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert load_prompts(path) == PROMPTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"good\nb\xe4d\n", "line 2: expected a prompt, got wrong_encoding"),
        ("p.txt", b"good\nb\0d\n", "line 2: .* nul_character"),
        ("p.txt", b"\n \n", "at least one prompt, found none"),
        ("p.txt", b"", "at least one prompt, found none"),
        ("p.txt", "good".encode("utf-16"), "expected UTF-8, got UTF-16"),
        ("p.json", b'["good", ""]', "line 1: .* empty_field"),
        ("p.json", b'["good",\n 3]', "line 2: .* not_text"),
        ("p.json", b"[]", "at least one record"),
        ("p.jsonl", b'{"prompt": "good"}\n{"prompt": null}', "line 2: .* null_field"),
        (
            "p.jsonl",
            b'{"prompt": "good"}\n{"text": "x"}',
            "line 2: .* missing_column: no prompt among the columns text",
        ),
        ("p.jsonl", b'{"prompt": "good"}\n{"prompt', "line 2: .* malformed_json"),
        ("p.jsonl", b'{"prompt": "\\ud800"}', "line 1: .* lone_surrogate"),
        ("p.csv", b"text\nx\n", "expected the columns prompt, got text"),
        ("p.txt.gz", gzip.compress(b"good\n" * 100)[:-12], "truncated_file"),
    ],
)
def test_one_bad_prompt_refuses_the_file_and_says_where(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidData, match=message):
        load_prompts(tmp_path / name)


def test_a_missing_file_and_a_strange_suffix_say_what_to_give(tmp_path):
    with pytest.raises(UsageError, match=r"expected a prompt file at .* give a \.txt, \.json, \.jsonl or \.csv"):
        load_prompts(tmp_path / "none.txt")
    (tmp_path / "p.docx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"got '\.docx'"):
        load_prompts(tmp_path / "p.docx")


MANY = [f"question number {i}" for i in range(400)]


def test_the_split_is_a_partition_near_its_fraction():
    dev, confirm = split_prompts(MANY, confirm_fraction=0.25, seed=3)
    assert sorted(dev + confirm) == sorted(MANY)
    assert 60 <= len(confirm) <= 140  # 100 expected, standard deviation 8.7
    assert split_prompts(MANY, confirm_fraction=0.25, seed=3) == (dev, confirm)
    assert split_prompts(MANY, confirm_fraction=0.25, seed=4) != (dev, confirm)


@settings(deadline=None)
@given(st.permutations(MANY[:40]), st.integers(20, 40))
def test_a_prompts_side_depends_on_neither_order_nor_company(order, n):
    _, confirm = split_prompts(MANY)
    assert set(split_prompts(order[:n])[1]) == set(order[:n]) & set(confirm)


def test_a_rising_fraction_only_adds_to_confirm():
    assert set(split_prompts(MANY, confirm_fraction=0.3)[1]) <= set(split_prompts(MANY, confirm_fraction=0.6)[1])


def test_variants_of_a_prompt_fall_on_one_side():
    upper = [prompt.upper() + "!" for prompt in MANY]
    assert [p.upper() + "!" for p in split_prompts(MANY)[0]] == split_prompts(upper)[0]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1, 2])
def test_a_fraction_outside_is_refused(fraction):
    with pytest.raises(UsageError, match="between 0 and 1"):
        split_prompts(MANY, confirm_fraction=fraction)


def test_an_empty_side_is_refused():
    with pytest.raises(UsageError, match="for both dev and confirm, got"):
        split_prompts(["only one"])


BLOCKS = "\n \nROMEO:\r\n  Is the day so young?  \r\n\r\n\t\nBENVOLIO:\nBut new struck nine.\n\n\n"


def test_a_block_is_a_prompt_with_its_lines_as_they_are(tmp_path):
    (tmp_path / "p.txt").write_bytes(BLOCKS.encode())
    assert load_prompts(tmp_path / "p.txt", form="blocks") == [
        "ROMEO:\n  Is the day so young?  ",
        "BENVOLIO:\nBut new struck nine.",
    ]
    assert len(load_prompts(tmp_path / "p.txt")) == 4


def test_where_lines_and_blocks_differ_the_user_has_to_say(tmp_path):
    (tmp_path / "p.txt").write_bytes(BLOCKS.encode())
    with pytest.raises(UsageError, match=r"4 lines into 2 blocks, that of line 3 with 2 lines\. .* for 2 prompts"):
        load_prompts(tmp_path / "p.txt", form=None)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b c", "", " "]), max_size=6).filter(lambda lines: any(map(str.strip, lines))))
def test_a_form_untold_is_lines_or_refused_where_blocks_part_lines(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("p") / "p.txt"
    path.write_text("\n".join(lines))
    as_lines, as_blocks = load_prompts(path), load_prompts(path, form="blocks")
    assert "\n".join(as_blocks).split("\n") == as_lines
    if 1 < len(as_blocks) < len(as_lines):
        with pytest.raises(UsageError):
            load_prompts(path, form=None)
    else:
        assert load_prompts(path, form=None) == as_lines


def test_a_block_with_a_bad_line_says_which(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"good\n\ngood\nb\xe4d\n")
    with pytest.raises(InvalidData, match="line 4: expected a prompt, got wrong_encoding"):
        load_prompts(tmp_path / "p.txt", form="blocks")
