"""The tests of pages can fail, and say where: a block that fails, a flag that is not, a fence that says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs import running
from tests.docs.pages import PageError, find_pages, is_slow, read_blocks
from tests.docs.running import Shell, run_page
from tests.docs.world import ROWS, make_world


def run(text: str, environment: dict[str, str], folder: Path) -> None:
    run_page(read_blocks(text, "page.md"), Shell(folder, environment))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# Page\n\n```bash\ntrue\nfalse\n```\n", r"^page.md:5: expected this to run, got exit code 1"),
        ("```bash\necho seen\nls nowhere | cat\n```\n", r"(?s)^page.md:3: .*seen.*nowhere"),
        ("```bash\necho $unset\n```\n", r"(?s)^page.md:2: .*unset"),
        ("```bash\nif true\n```\n", r"(?s)^page.md:3: .*syntax error"),
        ("```bash\ntrue\nsmidgen prepare --pairs none.jsonl --out x\n```\n", r"(?s)^page.md:3: .*none.jsonl"),
        ("```bash\nsmidgen plan --no-such 1\n```\n", r"^page.md:2: expected a flag of `smidgen plan`, got --no-such"),
        ("- a list\n\n  ```bash\n  false\n  ```\n", r"^page.md:4: "),
        ("```bash\npip install x\n```\n", r"(?s)^page.md:2: .*say not run"),
        ("```python\nx = 1\n\nassert x == 2\n```\n", r"(?s)^page.md:4: .*assert x == 2.*AssertionError"),
        ("```python\nprint('seen')\n1 / 0\n```\n", r"(?s)^page.md:3: .*seen.*ZeroDivisionError"),
        ("```python\nx = 1\nx =\n```\n", r"(?s)^page.md:3: .*SyntaxError"),
        ("```python\nimport os\nos._exit(3)\n```\n", r"(?s)^page.md:2: .*the process ended"),
        ("```console\n$ echo one\none\n$ echo two\nthree\n```\n", r"(?s)^page.md:5: expected the output\nthree.*two"),
        ("```json\n{\n```\n", r"^page.md:2: expected json, got what does not parse"),
        ("```yaml\na: [\n```\n", r"^page.md:2: expected yaml, got what does not parse"),
        ("<!-- before:\nfalse\n-->\n```bash\ntrue\n```\n", r"^page.md:2: expected this to run"),
        ("<!-- before:\nx=1\n\n-->\n\n```bash\ntest $x = 2\n```\n", r"^page.md:7: expected this to run"),
        ("<!-- run: with --steps 2 -->\n```bash\nsmidgen plan\n```\n", r"^page.md:3: .* that takes --steps, got none"),
    ],
)
def test_what_fails_names_page_line_and_output(
    text: str, said: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(PageError, match=said):
        run(text, environment, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text\n\n```\nx\n```\n", r"^page.md:3: expected a language"),
        ("```sh\nx\n```\n", r"^page.md:1: expected bash behind the fence, got 'sh'"),
        ("<!-- not run: -->\n```bash\nx\n```\n", r"^page.md:1: expected a reason"),
        ("<!-- not run -->\n```bash\nx\n```\n", r"^page.md:1: expected a reason"),
        ("<!-- run: quickly -->\n```bash\nx\n```\n", r"^page.md:1: expected `run: dry`.*got `run: quickly`"),
        ("<!-- run: with -->\n```bash\nx\n```\n", r"^page.md:1: expected `run: dry`"),
        ("\n<!-- run: dry -->\n\nwords\n\n```bash\nx\n```\n", r"^page.md:2: expected a fence after `run`"),
        ("words\n\n<!-- not run: a GPU -->\n", r"^page.md:3: expected a fence after `not run`"),
        ("# Page\n\n<!-- slow -->\n\nwords\n", r"^page.md:3: expected `slow` in the first line"),
        ("=== tab\n\n    ```bash\n    x\n    ```\n", r"^page.md:3: expected fences at the margin"),
    ],
)
def test_a_page_that_is_not_plain_is_refused(text: str, said: str) -> None:
    with pytest.raises(PageError, match=said):
        read_blocks(text, "page.md")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("smidgen plan --no-such 1", r":3: expected a flag of `smidgen plan`, got --no-such"),
        (
            "true\nA=b .venv/bin/smidgen train dpo \\\n  --betta 2",
            r":4: expected a flag of `smidgen train dpo`, got --betta",
        ),
        ("accelerate launch --two 2 -m smidgen train sft --shrad", r":3: .*smidgen train sft`, got --shrad"),
        ("for x in 1 2; do smidgen bench --modle $x; done", r":3: .*got --modle"),
        ("smidgen --json explain beta --bat 2", r":3: .*got --bat"),
        ("smidgen trane dpo", r":3: .*trane"),
        ("smidgen train dpoo", r":3: .*dpoo"),
        ("smidgen plan 'x", r":3: expected bash, got what does not parse"),
    ],
)
def test_what_is_not_run_must_be_known_to_the_command_line(
    code: str, said: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(PageError, match=said):
        run(f"<!-- not run: needs a GPU -->\n```bash\n{code}\n```\n", environment, tmp_path)


def test_what_is_not_run_is_not_run_and_known_flags_pass(environment: dict[str, str], tmp_path: Path) -> None:
    code = """touch here  # smidgen plan --no-such
    git clone ADDRESS smidgen && pip install -e smidgen
    smidgen train dpo ... --pairs x --beta=2 --loss.beta 1 --no-such-is-quoted
    """.replace(" --loss.beta 1 --no-such-is-quoted", "")
    code += "smidgen train mine --plugin mine.py --own 3; smidgen train NAME --heldout x; smidgen train … --x\n"
    code += "smidgen --set seed=3 --json view runs/x --no-browser; smidgen minimize --recipe.steps 4 --recipe.dtype …\n"
    run(f"<!-- not run: needs a GPU -->\n```bash\n{code}```\n", environment, tmp_path)
    assert not list(tmp_path.iterdir())


def test_blocks_share_a_folder_and_python_a_namespace(environment: dict[str, str], tmp_path: Path) -> None:
    text = """\
```python title="made/two.py"
TWO = 2
```

```yaml title="settings.yaml"
seed: 3
```

<!-- before:
x = 40
-->
```python
from made.two import TWO

def total():
    return x + TWO
```

```bash
cat settings.yaml > copied
```

```python
from pathlib import Path

import asyncio

await asyncio.sleep(0)
assert total() == 42 and Path("copied").read_text() == "seed: 3\\n"
```

```console
$ cat \\
    copied
seed: 3
$ printf 'a\\nb\\nc\\nd\\n'
a
…
d
```
"""
    run(text, environment, tmp_path)


def test_flags_are_added_and_the_command_line_is_the_projects(environment: dict[str, str], tmp_path: Path) -> None:
    make_world(tmp_path)
    prepare = "smidgen prepare --pairs pairs.jsonl --out prepared"
    plan = "smidgen plan > planned"
    run(f"<!-- run: with --first 3 -->\n```bash\n{prepare}\n{plan}\n```\n", environment, tmp_path)
    assert len((tmp_path / "prepared" / "pairs.jsonl").read_text().splitlines()) == 3
    train = "smidgen train dpo --pairs pairs.jsonl --model my-sft-model --out run"
    run(f"<!-- run: dry -->\n```bash\n{train} > said\n```\n", environment, tmp_path)
    assert "260" in (tmp_path / "said").read_text() and not (tmp_path / "run").exists()
    run("```bash\nsmidgen prepare --pairs none --out x || test $? = 2\n```\n", environment, tmp_path)


def test_what_does_not_end_is_stopped_and_named(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "SECONDS", 3)
    with pytest.raises(PageError, match=r"(?s)^page.md:2: expected this to end within 3 s.*begun"):
        run("```bash\necho begun\nsleep 60 | smidgen view pairs.jsonl\n```\n", environment, make_world(tmp_path))


def test_rows_left_out_stop_a_page_that_does_not_expect_them(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a"}\n')
    fence = "```bash\nsmidgen prepare --pairs bad.jsonl --out x\n```\n"
    with pytest.raises(PageError, match="exit code 4"):
        run(fence, environment, tmp_path)
    run(f"<!-- run: with rows left out -->\n{fence}", environment, tmp_path)


def test_pages_that_are_served_end_by_an_interrupt(environment: dict[str, str], tmp_path: Path) -> None:
    make_world(tmp_path)
    run("<!-- run: interrupted -->\n```bash\nsmidgen view pairs.jsonl > said\n```\n", environment, tmp_path)
    assert "ended" in (tmp_path / "said").read_text()


def test_what_a_page_registers_stays_in_its_process(environment: dict[str, str], tmp_path: Path) -> None:
    run("```python\nimport sys\nsys.modules['smidgen'].changed = True\n```\n", environment, tmp_path)
    run("```python\nimport smidgen\nassert 'changed' not in vars(smidgen)\n```\n", environment, tmp_path)


def test_every_reader_has_the_same_small_files(tmp_path: Path) -> None:
    assert {path.name for path in make_world(tmp_path).iterdir()} == {*ROWS, "my-sft-model"}
    for name, n_rows in ROWS.items():
        assert len((tmp_path / name).read_text(encoding="utf-8").splitlines()) == n_rows


def test_pages_are_found_and_slow_ones_say_so_at_their_top(tmp_path: Path) -> None:
    for name in ("README.md", "docs/a.md", "docs/deep/b.md", "docs/reference/c.md", "recipes/d/README.md", "src/e.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(page.relative_to(tmp_path)) for page in find_pages(tmp_path)]
    assert found == ["README.md", "docs/a.md", "docs/deep/b.md", "recipes/d/README.md"]
    assert len(find_pages()) > 30
    assert is_slow("<!-- slow -->\n# Page\n") and not is_slow("# Page\n\n<!-- slow -->\n")
