"""Every block of every page runs, or says why not; what is not run has flags that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.docs.commands import all_flags, complaint
from tests.docs.pages import ROOT, find_pages, is_slow, read_blocks
from tests.docs.running import run_page
from tests.docs.world import open_world

PAGES = [
    pytest.param(page, marks=[pytest.mark.slow] if is_slow(text) else [], id=str(page.relative_to(ROOT)))
    for page in find_pages()
    if "```" in (text := page.read_text(encoding="utf-8"))
]

# Flags of other programs and of the recipes' own scripts, as pages name them in their prose.
OTHERS = {"--multi_gpu", "--numbers", "--smoke", "--summaries", "--use_fsdp"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    blocks = read_blocks(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))
    with open_world(tmp_path, environment) as shell:
        run_page(blocks, shell)


def test_prose_names_commands_and_flags_that_there_are() -> None:
    flags = all_flags() | OTHERS
    for page in find_pages():
        text = re.sub(r"<!--.*?-->|^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
            if code.startswith("smidgen "):
                assert not complaint(shlex.split(code)[1:]), (page.name, code)
            elif code.startswith("--"):
                assert set(re.findall(r"(?<!\S)--[a-z][\w.-]*", code)) <= flags, (page.name, code)
