"""The documentation site, built once for all that look at it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tools.docs.build import build

ROOT = Path(__file__).parents[2]


def copied(folder: Path) -> Path:
    """A folder with what the site is built from; the code is a link."""
    for name in ("src", "tools"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("reference"))
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of the site, and what is wrong with it."""
    root = copied(tmp_path_factory.mktemp("docs"))
    problems = build(root)
    return root / "site", problems
