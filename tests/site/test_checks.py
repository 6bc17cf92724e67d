"""The site's own checks find what is wrong with a site, and the pages lead somewhere where the repository is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from mkdocs.config import load_config
from tests.site.conftest import ROOT
from tools.docs.build import REFERENCE
from tools.docs.checks import nav_pages, nav_problems, site_problems
from tools.docs.markdown import anchor

from smidgen.cli.app import COMMANDS

DOCS = ROOT / "docs"
WRITTEN = sorted(path for path in DOCS.rglob("*.md") if DOCS / REFERENCE not in path.parents)
READ = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("recipes/*/README.md")), *WRITTEN]


def a_site(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return folder


def test_a_sound_site_has_no_problems(tmp_path: Path) -> None:
    (tmp_path / "look.css").touch()
    a_site(
        tmp_path,
        index='<link rel="stylesheet" href="look.css"><a href="other.html#here">x</a> <a href="#top" id="top">y</a>'
        '<a href="https://example.org">out</a> <img src="data:image/png;base64,AA==">',
        other='<h2 id="here">Here</h2> <a href=".">home</a> <a href="mailto:a@example.org">z</a>',
    )
    assert site_problems(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="gone.html">x</a>', r"links to gone\.html, which is not there"),
        ('<a href="other.html#gone">x</a>', r"links to other\.html#gone, where no such anchor is"),
        ('<a href="#gone">x</a>', r"links to #gone, where no such anchor is"),
        ('<img src="gone.png">', r"loads gone\.png, which is not there"),
        ('<script src="https://example.org/a.js"></script>', "loads https://example.org/a.js from another host"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "loads //example.org/a.css from another host"),
    ],
)
def test_what_is_wrong_with_a_page_is_found(tmp_path: Path, body: str, problem: str) -> None:
    (found,) = site_problems(a_site(tmp_path, index=body, other="<p>x</p>"))
    assert re.match(rf"index\.html: {problem}", found)


def test_a_page_left_out_of_the_navigation_is_found_and_an_entry_without_a_page(tmp_path: Path) -> None:
    config, docs = tmp_path / "mkdocs.yml", tmp_path / "docs"
    (docs / "guides").mkdir(parents=True)
    for name in ("index.md", "guides/new.md"):
        (docs / name).touch()
    config.write_text("nav:\n  - index.md\n  - Old: old.md\n  - Again: index.md\n", encoding="utf-8")
    assert nav_problems(config, docs) == [
        "mkdocs.yml: index.md stands twice in nav",
        "mkdocs.yml: nav names old.md, which is not there",
        "mkdocs.yml: nav leaves out guides/new.md; give it a place",
    ]


def test_every_page_has_a_place_in_the_navigation() -> None:
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)["nav"]
    listed = [name for name in nav_pages(nav) if not name.startswith(f"{REFERENCE}/")]
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in WRITTEN)
    commands = {name for name in nav_pages(nav) if name.startswith(f"{REFERENCE}/commands/")}
    assert commands == {f"{REFERENCE}/commands/{name}.md" for name in (*COMMANDS, "index")}


def links(path: Path) -> Iterator[str]:
    """Where a page leads on a code host: its Markdown links and pictures."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        for part in token.children or ():
            for name in ("href", "src"):
                if (found := part.attrGet(name)) is not None:
                    yield str(found)


def headings(path: Path) -> set[str]:
    found = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    inline = (after.content for token, after in pairwise(found) if token.type == "heading_open")
    return {anchor(re.sub(r"[`*]|\]\([^)]*\)|\[", "", text)) for text in inline}


@pytest.mark.parametrize("path", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_where_the_repository_is_read(path: Path) -> None:
    """Generated pages are not there, so no page links to them; the site's navigation does."""
    for link in links(path):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, fragment = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists() and DOCS / REFERENCE not in target.parents, f"{path.name} links to {link}"
        assert not fragment or target.suffix != ".md" or fragment in headings(target), f"{path.name} links to {link}"


def test_mkdocs_reads_the_same_settings() -> None:
    """But for the theme's name and its plugin, which come with Material for MkDocs."""
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)
    assert settings["theme"]["name"] == "material"
    plugins = [plugin for plugin in settings["plugins"] if plugin != "offline"]
    assert len(plugins) == len(settings["plugins"]) - 1
    config = load_config(str(ROOT / "mkdocs.yml"), theme="mkdocs", plugins=plugins)
    assert config.nav == settings["nav"]
