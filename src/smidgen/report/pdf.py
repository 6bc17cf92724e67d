"""The report as a PDF for handing in: the same artefacts as the page's, typeset, tagged, equal bytes for equal runs.

Texts of models and data reach the typesetter as JSON, never as markup, and it may read nothing but its own template.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import typst

from smidgen.errors import SmidgenError
from smidgen.report.artefacts import Run, read_run
from smidgen.report.pdf_contents import contents
from smidgen.report.pdf_fonts import font_families, undrawn
from smidgen.report.pdf_text import (
    UNDRAWN,
    breakable,
    clusters,
    every_text,
    printable,
    undrawn_counts,
    with_every_text,
    with_signs,
)
from smidgen.runs import atomic_write

TEMPLATE = ("report.typ", "report_style.typ", "report_method.typ", "references.yml")
_TRIES = 6
_UNDRAWABLE = re.compile(r'the text `"(.*)"` could not be displayed', re.DOTALL)
_ESCAPED = re.compile(r"\\u\{([0-9a-f]+)\}")


@dataclass(frozen=True, slots=True)
class Written:
    """A report that was written.

    Attributes:
        undrawn: How many characters no font of this machine has, by script.
    """

    path: Path
    undrawn: Mapping[str, int]

    @property
    def note(self) -> str:
        """What a user should know of characters that are not in it; "" where all are."""
        if not self.undrawn:
            return ""
        scripts = ", ".join(f"{name} {n:,}" for name, n in self.undrawn.items())
        return (
            f"{self.path.name}: no font here has these characters, shown as {UNDRAWN}: {scripts}. Install fonts for "
            "them, such as Noto's, and run `smidgen report` again; report.html has them all."
        )


def write_pdf(run_folder: Path | str) -> Written:
    """Write report.pdf into a run's folder; equal artefacts and equal fonts give equal bytes.

    Raises:
        UsageError: No finished run there.
        InvalidData: An artefact that cannot be read.
    """
    path = Path(run_folder) / "report.pdf"
    data, missing = render_pdf(read_run(run_folder))
    with atomic_write(path, "wb") as file:
        file.write(data)
    return Written(path, missing)


def render_pdf(run: Run, *, system_fonts: bool = True) -> tuple[bytes, Mapping[str, int]]:
    """The document, and how many characters of each script no font has.

    Args:
        system_fonts: Use the machine's fonts beside those inside the typesetter.
    """
    values = contents(run)
    drawings = {name: values.pop(name) for name in ("frontier_figure", "distributions_figure")}
    texts = with_every_text(values, printable)
    families = font_families(system_fonts=system_fonts)
    with tempfile.TemporaryDirectory(prefix="smidgen-") as root:
        known = {cluster for text in every_text(texts) for cluster in clusters(text)}
        missing = undrawn(known, families, root, system_fonts=system_fonts)
        for name in TEMPLATE:
            (Path(root) / name).write_bytes(files("smidgen.report").joinpath(name).read_bytes())
        # What fonts have one by one may still fail together: the typesetter names it, a little at a time.
        for tries in range(_TRIES + 1):
            last = tries == _TRIES
            counts = undrawn_counts(texts, missing)
            given = {**_shown(texts, missing), **drawings, "fonts": families}
            given["undrawn"] = [[script, f"{n:,}"] for script, n in counts.items()]
            try:
                return _typeset(given, root, is_strict=not last, system_fonts=system_fonts), counts
            except typst.TypstError as error:
                if last or not (named := _named(str(error))):
                    raise _failure(error) from error
                missing |= {cluster for cluster in known if not cluster.isascii() and named & {*cluster}}
    raise AssertionError("the last try returns or raises")


def _shown(texts: Any, missing: Collection[str]) -> Any:
    return with_every_text(texts, lambda text: breakable(with_signs(text, missing)))


def _typeset(given: Mapping[str, Any], root: str, *, is_strict: bool, system_fonts: bool) -> bytes:
    compiler = typst.Compiler(
        str(Path(root) / TEMPLATE[0]),
        root=root,
        ignore_system_fonts=not system_fonts,
        sys_inputs={"given": json.dumps(given)},
        # Where packages would be looked for: there are none, and none are fetched.
        package_path=root,
        package_cache_path=root,
    )
    # For readers who cannot see it: the standard asks for tags, a title, a language, and no missing glyph.
    document = compiler.compile(format="pdf", pdf_standards="ua-1" if is_strict else None)
    assert isinstance(document, bytes), "a PDF is one file"
    return document


def _named(message: str) -> set[str]:
    """The characters of the text that the typesetter says it cannot draw."""
    found = _UNDRAWABLE.search(message)
    return {*_ESCAPED.sub(lambda code: chr(int(code[1], 16)), found[1])} if found else set()


def _failure(error: typst.TypstError) -> SmidgenError:
    return SmidgenError(
        f"expected report.pdf to be typeset, got: {error}. report.html holds the same; please report this."
    )
