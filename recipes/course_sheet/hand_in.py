"""The PDF and the zip under the sheet's names, each at most 1 MB, from the folder that sheet.py wrote.

Run it by itself after you have changed the .tex: it typesets and packs what is there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from smidgen.errors import InvalidData, SmidgenError, UsageError
from smidgen.runs import atomic_write

LIMIT = 1_000_000
STYLE = "neurips_2024.sty"
_NAME = re.compile(r"[^\W_][\w-]*")
_LONGEST_SECONDS = 300
# Equal files give equal bytes: a zip knows no earlier day.
_DATE = (1980, 1, 1, 0, 0, 0)


def sheet_stem(lastname: str, matriculation: str) -> str:
    """What the sheet's files are called.

    >>> sheet_stem("Lovelace", "1234567")
    'Lovelace_1234567_week5'

    Raises:
        UsageError: A name that is no file name.
    """
    for name, value in (("--name", lastname), ("--matriculation", matriculation)):
        if not _NAME.fullmatch(value):
            raise UsageError(
                f"expected {name} in letters, digits and hyphens, got {value!r}; it becomes part of a file's name: "
                "write a hyphen for a space."
            )
    return f"{lastname}_{matriculation}_week5"


def hand_in(folder: Path) -> list[str]:
    """Typeset and pack the one sheet of a folder; lines that say what is there now.

    Raises:
        UsageError: No sheet there, or several.
        InvalidData: LaTeX stops at an error, or a file is above the limit.
    """
    found = sorted(folder.glob("*_week5.tex"))
    if len(found) != 1:
        raise UsageError(
            f"expected one file *_week5.tex in {folder}, got {len(found)}; write it by sheet.py, into a folder of its "
            "own."
        )
    return [typeset(found[0]), _checked(pack(found[0]))]


def typeset(tex: Path) -> str:
    """Make the PDF beside a .tex, by pdflatex or tectonic; a line that says where it is, or what to do without them."""
    pdf = tex.with_suffix(".pdf")
    with tempfile.TemporaryDirectory(prefix="smidgen-") as scratch:
        commands = _commands(tex.name, scratch)
        if not commands:
            missing = f"{tex}: neither pdflatex nor tectonic is on the PATH"
            if pdf.exists():
                return f"{missing}; the PDF that is there is kept as it is: {_checked(pdf)}"
            return f"{missing}, so no PDF yet; upload it to any LaTeX service"
        for command in commands:
            _run(command, tex.parent)
        made = (Path(scratch) / pdf.name).read_bytes()
    with atomic_write(pdf, "wb") as file:
        file.write(made)
    return _checked(pdf)


def _commands(name: str, scratch: str) -> list[list[str]]:
    if program := shutil.which("pdflatex"):
        once = [program, "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error"]
        # Tables know their widths the second time, and rest the third.
        return 3 * [[*once, f"-output-directory={scratch}", name]]
    if program := shutil.which("tectonic"):
        return [[program, "--untrusted", "--outdir", scratch, name]]
    return []


def _run(command: Sequence[str], folder: Path) -> None:
    # Paranoid: TeX neither reads nor writes outside the folder, whatever the text says.
    safe = {**os.environ, "openin_any": "p", "openout_any": "p", "shell_escape": "f"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=safe, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise InvalidData(
            f"expected {command[0]} to end within {_LONGEST_SECONDS} s, got no end; look at the .tex for what you "
            "changed last."
        ) from None
    if done.returncode:
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        error = next((line for line in said if re.match(r"(!|error|.*:\d+:)", line)), said[-1] if said else "nothing")
        raise InvalidData(
            f"expected LaTeX to typeset {command[-1]}, got: {error}. Undo what you changed there, install what is "
            "missing (texlive-latex-recommended), or upload the .tex to any LaTeX service."
        )


def pack(tex: Path) -> Path:
    """The zip beside a .tex: a folder of its name with every file here but zips; equal files give equal bytes."""
    path = tex.with_suffix(".zip")
    files = [f for f in sorted(tex.parent.iterdir()) if f.is_file() and f.suffix != ".zip" and f.name[0] != "."]
    with atomic_write(path, "wb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(f"{tex.stem}/{file.name}", _DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def _checked(path: Path) -> str:
    size = path.stat().st_size
    if size > LIMIT:
        raise InvalidData(
            f"expected {path.name} with at most {LIMIT:,} bytes, got {size:,}. Take out what is large: other files in "
            f"{path.parent}, figures, prompts; then run hand_in.py {path.parent}."
        )
    return f"{path} ({size / 1000:,.0f} kB)"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("hand_in"))
    try:
        print("\n".join(hand_in(parser.parse_args(argv).folder)))
    except SmidgenError as error:
        print(f"hand_in.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
