"""What the builder does not look at: links, pictures and anchors of the built pages, other hosts, the navigation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

# Attributes by which a page loads something, and those by which it leads somewhere.
_LOADS = {("img", "src"), ("script", "src"), ("link", "href"), ("source", "src"), ("iframe", "src"), ("video", "src")}
_LEADS = {("a", "href"), ("form", "action")}
# Of <link>: these name a page and load nothing.
_NAMES = {"canonical", "next", "prev", "alternate"}


@dataclass(slots=True)
class Page(HTMLParser):
    """A page's references and the anchors that it has."""

    loads: list[str] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        for name, value in attrs:
            names_only = tag == "link" and given.get("rel") in _NAMES
            if value is not None and (tag, name) in _LOADS and not names_only:
                self.loads.append(value)
            elif value is not None and (tag, name) in _LEADS:
                self.leads.append(value)


def site_problems(site: Path) -> list[str]:
    """Links that lead nowhere, and files or hosts that a page would load and has not, one line each."""
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html"))}
    return [f"{path.relative_to(site)}: {problem}" for path in pages for problem in _problems(path, pages, site)]


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _problems(path: Path, pages: Mapping[Path, Page], site: Path) -> Iterator[str]:
    page = pages[path]
    for reference in page.loads:
        if _is_outside(reference):
            yield f"loads {reference} from another host; the site must work offline"
        elif not reference.startswith("data:") and not (target := _target(path, reference, site)).is_file():
            yield f"loads {reference}, which is not there ({target})"
    for reference in page.leads:
        parts = urlsplit(reference)
        if parts.scheme or parts.netloc:
            continue
        target = _target(path, reference, site) if parts.path else path
        if not target.is_file():
            yield f"links to {reference}, which is not there"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"links to {reference}, where no such anchor is"


def _is_outside(reference: str) -> bool:
    parts = urlsplit(reference)
    return bool(parts.netloc) or parts.scheme in ("http", "https")


def _target(path: Path, reference: str, site: Path) -> Path:
    inside = unquote(urlsplit(reference).path)
    found = (site / inside.lstrip("/") if inside.startswith("/") else path.parent / inside).resolve()
    return found / "index.html" if found.is_dir() else found


def nav_problems(config: Path, docs: Path) -> list[str]:
    """Pages that the navigation leaves out, and entries without a page, one line each."""
    listed = list(nav_pages(yaml.load(config.read_text(encoding="utf-8"), yaml.BaseLoader)["nav"]))
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    return [
        *(f"{config.name}: {name} stands twice in nav" for name in sorted({n for n in listed if listed.count(n) > 1})),
        *(f"{config.name}: nav names {name}, which is not there" for name in listed if name not in there),
        *(f"{config.name}: nav leaves out {name}; give it a place" for name in sorted(there - set(listed))),
    ]


def nav_pages(nav: Any) -> Iterator[str]:
    """Paths of pages in the order of the navigation.

    >>> list(nav_pages([{"Start": ["index.md", {"Papers": "papers.md"}]}]))
    ['index.md', 'papers.md']
    """
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, Mapping):
        for value in nav.values():
            yield from nav_pages(value)
    else:
        for item in nav:
            yield from nav_pages(item)
