"""What of a page can be run: its fences, in order, and what the comment before each says about running it.

A comment on the line before a fence, invisible on the rendered page:

    <!-- run: dry -->                  each smidgen command that knows --dry-run gets it
    <!-- run: with --steps 4 -->       each smidgen command gets those of these flags that it knows, so that it is quick
    <!-- run: interrupted -->          each smidgen command serves pages: once they answer, it gets Ctrl-C
    <!-- run: with rows left out -->   exit code 4, done with rows left out, is as good as 0
    <!-- not run: REASON -->           it needs what a test has not; its smidgen commands must still parse
    <!-- before: CODE -->              code that runs just before the fence's own, in the same shell or namespace

`finished_study FOLDER` in such code puts a small finished study there. At the top of a page, `<!-- slow -->`: its
test is slow.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
RUN = ("bash", "console", "python")
# What would look run to its writer, and would not be.
ALIASES = {"sh": "bash", "shell": "bash", "zsh": "bash", "py": "python", "python3": "python", "pycon": "python"}
_COMMENT = re.compile(r"<!--\s*(run|not run|before|slow)\b\s*(:?)(.*?)-->", re.DOTALL)


class PageError(AssertionError):
    """A page that does not do what it says; starts with the page and the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fence of a page.

    Attributes:
        page: The page as errors name it, relative to the project.
        line: Of the code's first line, from 1.
        title: The file that the code is written to, in place of running it.
        mode: How its commands run: plain, dry, interrupted, with rows left out, or not.
        flags: Given to each smidgen command.
        reason: Why it is not run.
    """

    page: str
    line: int
    language: str
    code: str
    title: str | None = None
    mode: str = "plain"
    flags: tuple[str, ...] = ()
    reason: str | None = None

    def error(self, text: str, line: int | None = None) -> PageError:
        return PageError(f"{self.page}:{line or self.line}: {text}")


def find_pages(root: Path = ROOT) -> list[Path]:
    """Every page that a reader follows, by its path."""
    patterns = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "recipes/**/README.md")
    # The reference is made from the code, whose examples run as doctests.
    reference = root / "docs" / "reference"
    return sorted({page for pattern in patterns for page in root.glob(pattern) if reference not in page.parents})


def is_slow(text: str) -> bool:
    """Whether a page says at its top that running it takes long."""
    tokens = [token for token in MarkdownIt().parse(text) if token.type == "html_block"]
    return any(token.map == [0, 1] and "<!-- slow -->" in token.content for token in tokens)


def read_blocks(text: str, page: str) -> list[Block]:
    """The fences of a page from top to bottom.

    Raises:
        PageError: A fence has no language or one that says bash or Python in other words, a comment is not understood,
            or no fence follows it.
    """
    found: list[Block] = []
    comments: list[Token] = []
    for token in MarkdownIt().parse(text):
        if token.type == "html_block" and _COMMENT.match(token.content):
            comments.append(token)
        elif token.type == "fence":
            found.append(_block_of(token, comments, page))
            comments = []
        else:
            _refuse_hidden_fence(token, page)
            _refuse_lone(comments, page)
            comments = []
    _refuse_lone(comments, page)
    return found


def _block_of(fence: Token, comments: list[Token], page: str) -> Block:
    line = _line(fence)
    language, _, attributes = fence.info.strip().partition(" ")
    title = re.search(r'title="([^"]+)"', attributes)
    block = Block(page=page, line=line + 1, language=language, code=fence.content, title=title[1] if title else None)
    if not language:
        raise block.error("expected a language behind the fence, got none; say bash, python, text, …", line)
    if language in ALIASES:
        raise block.error(f"expected {ALIASES[language]} behind the fence, got {language!r}, which is not run", line)
    for comment in comments:
        for match in _COMMENT.finditer(comment.content):
            at = _line(comment) + comment.content[: match.start(3)].count("\n")
            if match[1] == "before":
                block = _preceded(block, match[3], at)
            elif match[1] == "slow":
                _check_at_top(comment, page)
            else:
                block = _as_told(block, match[1], match[3].strip(), at)
    return block


def _preceded(block: Block, code: str, line: int) -> Block:
    """The block with hidden code before its own, as far above it as it stands on the page."""
    if block.language not in ("bash", "python") or block.title:
        raise block.error("expected a fence of bash or python that runs after `before`", line)
    hidden = code.rstrip() + "\n"
    return replace(block, line=line, code=hidden + "\n" * (block.line - line - hidden.count("\n")) + block.code)


def _as_told(block: Block, kind: str, text: str, line: int) -> Block:
    if kind == "not run":
        if not text:
            raise block.error("expected a reason, `<!-- not run: REASON -->`, got none", line)
        return replace(block, mode="not", reason=text)
    how, _, flags = text.partition(" ")
    if text in ("dry", "interrupted", "with rows left out"):
        return replace(block, mode=text, flags=("--dry-run",) if text == "dry" else ())
    if how == "with" and flags.strip():
        return replace(block, flags=tuple(shlex.split(flags)))
    ways = "`run: dry`, `run: with FLAGS`, `run: with rows left out` or `run: interrupted`"
    raise block.error(f"expected {ways}, got `run: {text}`", line)


def _refuse_lone(comments: list[Token], page: str) -> None:
    for comment in comments:
        match = _COMMENT.match(comment.content)
        if match and match[1] == "slow":
            _check_at_top(comment, page)
        elif match:
            raise PageError(f"{page}:{_line(comment)}: expected a fence after `{match[1]}`, got other text")


def _check_at_top(comment: Token, page: str) -> None:
    if _line(comment) != 1:
        raise PageError(f"{page}:{_line(comment)}: expected `slow` in the first line, got it here, where nobody looks")


def _refuse_hidden_fence(token: Token, page: str) -> None:
    """A fence that is indented by four is code to some renderers and a fence to others."""
    if token.type == "code_block" and re.search(r"^\s*(```|~~~)", token.content, re.MULTILINE):
        raise PageError(f"{page}:{_line(token)}: expected fences at the margin or in a list, got an indented one")


def _line(token: Token) -> int:
    return (token.map or [0])[0] + 1
