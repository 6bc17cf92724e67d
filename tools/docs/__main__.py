"""Build the documentation site: `python -m tools.docs [FOLDER]`, a folder with docs/, src/ and mkdocs.yml.

Three steps: reference pages from the code into docs/reference, the build, and the checks that the builder leaves out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tools.docs.commands import command_pages
from tools.docs.links import nav_problems, site_problems
from tools.docs.modules import module_pages
from tools.docs.registered import documented_modules, registered_pages

REFERENCE = "reference"


def write_reference(docs: Path) -> None:
    """Write the reference's pages into `docs`/reference, and nothing else there."""
    folder = docs / REFERENCE
    written = sorted(path for path in docs.rglob("*.md") if folder not in path.parents)
    pages = command_pages() | registered_pages()
    pages |= module_pages(written, elsewhere=documented_modules())
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def build(root: Path) -> list[str]:
    """Build the site into `root`/site; what is wrong with it, one line each."""
    write_reference(root / "docs")
    shutil.rmtree(root / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    if subprocess.run(command, cwd=root, check=False).returncode:
        return ["zensical build --strict failed; it says above what is wrong"]
    return [*nav_problems(root / "mkdocs.yml", root / "docs"), *site_problems(root / "site")]


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems = build(root)
    print(*problems, sep="\n", file=sys.stderr)
    if not problems:
        print(f"{root / 'site' / 'index.html'}")
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main())
