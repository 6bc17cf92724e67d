"""The site in three steps: reference pages from the code, the build, and the checks that the builder leaves out."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.docs.checks import nav_problems, site_problems
from tools.docs.commands import command_pages
from tools.docs.modules import module_pages
from tools.docs.registered import documented, registered_pages

REFERENCE = "reference"


def build(root: Path) -> list[str]:
    """Write the reference and build the site of `root`, a folder with docs/, src/, tools/ and mkdocs.yml.

    Returns:
        What is wrong with it, one line each.
    """
    write_reference(root / "docs")
    return render(root)


def write_reference(docs: Path) -> None:
    """Write the reference's pages into `docs`/reference, in place of what is there."""
    folder = docs / REFERENCE
    written = sorted(path for path in docs.rglob("*.md") if folder not in path.parents)
    pages = command_pages() | registered_pages() | module_pages(written, elsewhere=documented())
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def render(root: Path) -> list[str]:
    """Build `root`/site from the pages that are there; what is wrong with it, one line each."""
    shutil.rmtree(root / "site", ignore_errors=True)
    # A page that has not changed since the last build would be taken from a cache, its warnings with it.
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    if done.returncode:
        said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr).partition("Traceback")[0]
        return [f"zensical build --strict failed:\n{said}"]
    return [*nav_problems(root / "mkdocs.yml", root / "docs"), *site_problems(root / "site")]
