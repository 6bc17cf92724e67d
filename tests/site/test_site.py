"""The built site: strict, whole, and itself without a network."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from playwright.sync_api import Browser
from tests.site.conftest import ROOT, copied
from tools.docs.build import render

import smidgen
from smidgen.cli.app import COMMANDS, build_app
from smidgen.cli.schema import command_schema
from smidgen.evaluation.patterns import SHIPPED
from smidgen.settings import Registry
from smidgen.synthesis.task import task_names

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
Built = tuple[Path, list[str]]


def text_of(page: Path) -> str:
    """What a reader sees of a page, on one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", body)).split())


def ids_of(site: Path) -> set[str]:
    pages = (site / "reference").rglob("*.html")
    return {found for page in pages for found in re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8"))}


def registries() -> Iterator[Registry]:
    """All that the package has, wherever they stand."""
    for module in walk_packages(smidgen.__path__, "smidgen."):
        if not module.name.endswith("__main__"):
            yield from (value for value in vars(import_module(module.name)).values() if isinstance(value, Registry))


def test_it_builds_strictly_and_nothing_on_it_is_broken(built: Built) -> None:
    site, problems = built
    assert problems == []
    assert (site / "index.html").is_file()


def test_every_public_name_is_on_it(built: Built) -> None:
    ids = ids_of(built[0])
    assert {f"smidgen.{name}" for name in smidgen.__all__} <= ids


def test_everything_registered_is_on_it(built: Built) -> None:
    ids, found = ids_of(built[0]), {id(registry): registry for registry in registries()}
    assert {"loss", "selector", "judge", "format", "explanation"} <= {registry.kind for registry in found.values()}
    functions = [function for registry in found.values() for function in registry]
    assert [f for f in functions if f"{f.__module__}.{f.__qualname__}" not in ids] == []


def test_every_shipped_file_with_a_name_is_on_it(built: Built) -> None:
    reference = built[0] / "reference"
    tasks, lists = (text_of(reference / f"{name}.html") for name in ("tasks", "lists"))
    assert all(name in tasks for name in task_names())
    assert all(name in lists for name in SHIPPED)


def test_every_command_and_flag_is_on_its_page(built: Built) -> None:
    app, folder = build_app(), built[0] / "reference" / "commands"
    n_flags = 0
    for command in COMMANDS:
        text = text_of(folder / f"{command}.html")
        below = [f"{command} {name}" for name in app[command] if not name.startswith("-")]
        for name in below or [command]:
            assert f"smidgen {name}" in text
            for flag in flags(command_schema(app, name)):
                assert flag in text, f"{flag} of {name}"
                n_flags += 1
    assert n_flags > 300


def flags(schema: dict, before: str = "--") -> Iterator[str]:
    for name, inner in schema["properties"].items():
        flag = before + name.replace("_", "-")
        yield from flags(inner, f"{flag}.") if "properties" in inner else (flag,)


def test_every_setting_is_listed(built: Built) -> None:
    listed = set(
        re.findall(r"<td><code>([\w.]+)</code></td>", (built[0] / "reference/settings.html").read_text("utf-8"))
    )
    app = build_app()
    for name in ("minimize", "train dpo", "train ppo", "critique"):
        assert {flag[2:].replace("-", "_") for flag in flags(command_schema(app, name))} <= listed


def test_what_pages_import_is_documented(built: Built) -> None:
    ids = ids_of(built[0])
    text = "\n".join(path.read_text(encoding="utf-8") for path in (built[0].parent / "docs").glob("**/*.md"))
    imports = re.findall(r"^[+>. ]*from (smidgen[\w.]*) import ([\w, ]+)", text, re.MULTILINE)
    wanted = {f"{module}.{name.strip().split(' ')[0]}" for module, names in imports for name in names.split(",")}
    assert wanted
    assert {name for name in wanted if name not in ids and not is_elsewhere(name, ids)} == set()


def is_elsewhere(name: str, ids: set[str]) -> bool:
    """Registries have pages of their own; what a module takes from another is documented where it is defined."""
    module, _, last = name.rpartition(".")
    value = getattr(import_module(module), last)
    return isinstance(value, Registry) or f"{value.__module__}.{value.__qualname__}" in ids


def test_a_link_to_no_page_or_anchor_fails_the_build_each_time(tmp_path: Path) -> None:
    root = small(tmp_path)
    assert render(root) == []
    add(root, "[x](gone.md)", "[x](index.md#gone)")
    for _ in range(2):  # the second time nothing has changed, and the builder has its cache
        (found,) = render(root)
        assert "page does not exist" in found
        assert "anchor does not exist" in found


def test_what_the_builder_does_not_see_is_an_error(tmp_path: Path) -> None:
    root = small(tmp_path)
    add(root, "![x](gone.png)", "[x](gone.csv)", "<script src='https://example.org/a.js'></script>")
    (root / "docs" / "new.md").write_text("# New\n", encoding="utf-8")
    assert [re.sub(r" \(.*\)$", "", problem) for problem in render(root)] == [
        "mkdocs.yml: nav leaves out new.md; give it a place",
        "index.html: loads gone.png, which is not there",
        "index.html: loads https://example.org/a.js from another host; the site must work offline",
        "index.html: links to gone.csv, which is not there",
    ]


def add(root: Path, *texts: str) -> None:
    with (root / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.writelines(f"\n\n{text}\n" for text in texts)


def small(folder: Path) -> Path:
    """The site with one page, its settings as they are."""
    root = copied(folder)
    for path in (root / "docs").iterdir():
        if path.is_dir() and path.name != "assets":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    (root / "docs" / "index.md").write_text("# One page\n", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[0]
    (root / "mkdocs.yml").write_text(f"{settings}\nnav:\n  - index.md\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_a_folder_asks_no_host_and_finds(built: Built, browser: Browser, scheme: str) -> None:
    site = built[0]
    context = browser.new_context(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("non-inferior")
    page.locator("a[href*='certificate.html']").last.wait_for()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    context.close()


WIDE = ("index", "results", "selectors", "reference/settings", "reference/commands/train", "reference/python/models")


def test_no_page_is_wider_than_a_phone(built: Built, browser: Browser) -> None:
    context = browser.new_context(viewport=PHONE)  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    for name in WIDE:
        page.goto((built[0] / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
    context.close()
