"""What a reader wants to see of the pairs, as the address of the page says it: it can be kept and shared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

Range = tuple[float | None, float | None]
FIRST, LAST = "first", "last"
IDX = "idx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter, an order, a page, and the pair that is open.

    Attributes:
        text: Words that prompt or answers must hold.
        labels: Values that labels must have, by label.
        why: A reason, its numbers put out.
        ranges: From and to, both included, by feature.
        among: A trial, by its id: only pairs that it was trained on.
        sort: A feature, or `idx`.
        down: Largest first.
        page: From 1.
        shown: Features with a column of their own.
        pair: The idx of the pair that is open, or `first` or `last` of the page; None where none is.
    """

    text: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    among: str = ""
    sort: str = IDX
    down: bool = False
    page: int = 1
    shown: tuple[str, ...] = ()
    pair: int | str | None = None

    @property
    def n_filters(self) -> int:
        """How many conditions a pair must meet."""
        return len(self.labels) + len(self.ranges) + sum(map(bool, (self.text, self.why, self.among)))

    def sorted_by(self, name: str) -> Wanted:
        """This, in the order of a column; in the other direction where it is in its order already."""
        down = not self.down if name == self.sort else name != IDX
        return replace(self, sort=name, down=down, page=1, pair=None)


def read_wanted(parameters: Iterable[tuple[str, str]], *, labels: Iterable[str], features: Iterable[str]) -> Wanted:
    """What an address asks for; what it says of unknown labels or features, or not in numbers, is passed over.

    >>> read_wanted([("q", "tea"), ("sort", "-idx"), ("from.n", "2")], labels=[], features=["n"]).ranges
    {'n': (2.0, None)}
    """
    given = list(parameters)
    last = dict(given)
    known = set(features)
    sort = last.get("sort", "").removeprefix("-")
    ends = {n: (_number(last.get(f"from.{n}")), _number(last.get(f"to.{n}"))) for n in sorted(known)}
    return Wanted(
        text=last.get("q", "").strip()[:500],
        labels={name: last[f"is.{name}"] for name in labels if last.get(f"is.{name}")},
        why=last.get("why", ""),
        ranges={name: both for name, both in ends.items() if both != (None, None)},
        among=last.get("in", ""),
        sort=sort if sort in known else IDX,
        down=last.get("sort", "").startswith("-") and (sort in known or sort == IDX),
        page=max(1, _whole(last.get("page")) or 1),
        shown=tuple(dict.fromkeys(value for name, value in given if name == "show" and value in known)),
        pair=last["pair"] if last.get("pair") in (FIRST, LAST) else _whole(last.get("pair")),
    )


def query_of(wanted: Wanted, **changes: Any) -> str:
    """The shortest query that `read_wanted` reads as this.

    >>> query_of(Wanted(text="green tea", page=2), page=1)
    'q=green+tea'
    """
    w = replace(wanted, **changes)
    items: list[tuple[str, str]] = [("q", w.text), ("in", w.among)]
    items += [(f"is.{name}", value) for name, value in w.labels.items()]
    items.append(("why", w.why))
    for name, (low, high) in w.ranges.items():
        items += [(f"from.{name}", _shown(low)), (f"to.{name}", _shown(high))]
    if (w.sort, w.down) != (IDX, False):
        items.append(("sort", f"{'-' if w.down else ''}{w.sort}"))
    items += [("show", name) for name in w.shown]
    items.append(("page", str(w.page) if w.page > 1 else ""))
    items.append(("pair", "" if w.pair is None else str(w.pair)))
    return urlencode([(name, value) for name, value in items if value])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(text: str | None) -> int | None:
    # Beyond 18 digits SQLite has no such whole number.
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 18 else None
