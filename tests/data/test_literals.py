"""Lists in a Python file are read as they are written, and nothing in the file is ever run."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.data.literals import read_literals, split_reference
from smidgen.data.prompts import load_prompts
from smidgen.errors import InvalidData
from smidgen.evaluation.patterns import load_patterns


@pytest.fixture
def course(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "data.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        'names = ["a b", "c"]',
        "names = ('a b', 'c')",
        'names: list[str] = ["a b", "c"]',
        'names = other = ["a " "b", "c"]',
        'names = ["a" + " " + "b"] + ["c"]',
        'names = (\n  ["a b"]\n  # one more\n  + ("c",)\n)',
        'import torch, nowhere\nraise SystemExit(1)\nnames = ["a b", "c"]\nprint(names[0], names.index("c"))',
    ],
)
def test_what_is_written_out_is_read(course, text: str) -> None:
    assert [found for _, found in read_literals(course(text), "names")] == ["a b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a list names at the top level .* got none"),
        ("from prompts import names", "got none"),
        ("if True:\n    names = ['a']", "line 2 sets it inside something else"),
        ("names = open('secrets').readlines()", r"line 1: expected names as a list of texts in quotes, .*\(Call\)"),
        ("names = [f'a {1 + 1}']", "JoinedStr"),
        ("names = ['a'] * 1_000_000_000", "BinOp"),
        ("names = ['a' * 1_000_000_000]", "BinOp"),
        ("names = [x for x in 'abc']", "ListComp"),
        ("names = ['a', *more]", "Starred"),
        ("names = 'a b c'", "Constant"),
        ("names = ['a',\n 1]", "line 2: .* a value of type int"),
        ("names = ['a', None]", "NoneType"),
        ("names: list", "NoneType"),
        ("names = ['a']\nnames = ['b']", "set once and never changed, got lines 1, 2"),
        ("names = ['a']\nnames += ['b']", "lines 1, 2"),
        ("names = ['a']\nnames.append('b')", "lines 1, 2"),
        ("names = ['a']\nnames[0] = 'b'", "lines 1, 2"),
        ("names = ['a']\ndel names[0]", "lines 1, 2"),
        ("names = ['a']\ndef f():\n    global names\n    names = ['b']", "lines 1, 4"),
        ("names = ['a'\n", "SyntaxError"),
        ("names = ['\0']", "expected a Python file"),
        (b"names = ['\xff']", "expected a Python file"),
        ("names = " + "[" * 2000 + "]" * 2000, "expected a Python file|list of texts"),
        ("names = " + " + ".join(["['a']"] * 20_000), "expected a Python file|a sum of more terms"),
        ("names = ['" + "x" * 10_000_001 + "']", "above 10,000,000"),
    ],
)
def test_anything_else_is_refused_and_says_what_to_do(course, text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidData, match=message) as caught:
        read_literals(course(text), "names")
    assert str(caught.value).endswith((".", "]."))


def test_a_hostile_file_does_nothing(course, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    bomb = f"open({str(trace)!r}, 'w').write('run')"
    path = course(f"# coding: utf-8\n{bomb}\nnames = ['a']\nclass X:\n    {bomb}\n@({bomb})\ndef f(x={bomb}): ...\n")
    assert load_prompts(f"{path}#names") == ["a"]
    path = course(f"names = [{bomb}, 'a']")
    with pytest.raises(InvalidData, match="Call"):
        load_prompts(f"{path}#names")
    assert not trace.exists()


def test_prompts_are_checked_as_any_others_and_patterns_stand_as_written(course) -> None:
    path = course("prompts = ['a',\n '  ']\npatterns = ['No ', 'Hello!']\nempty = ['']\nnone = []")
    with pytest.raises(InvalidData, match="line 2: expected a prompt, got empty_field"):
        load_prompts(f"{path}#prompts")
    with pytest.raises(InvalidData, match="expected at least one prompt"):
        load_prompts(f"{path}#none")
    found = load_patterns(f"{path}#patterns")
    assert (found.name, found.patterns) == ("patterns", ("No ", "Hello!"))
    assert found.matches_exactly("Is it so? No idea.") and not found.matches_exactly("no idea")
    for name in ("empty", "none"):
        with pytest.raises(InvalidData, match="at least one pattern and none empty"):
            load_patterns(f"{path}#{name}")


def test_a_file_whose_own_name_holds_the_sign_is_taken_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.py#b"
    path.write_text("one\n")
    assert split_reference(path) == (path, None)
    assert split_reference(tmp_path / "c.py#b") == (tmp_path / "c.py", "b")
    assert split_reference("Anthropic/hh-rlhf#split=test") == (Path("Anthropic/hh-rlhf#split=test"), None)
