"""How numbers and lists are said in tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Natural logarithms between which a factor is a number that says something, and log-odds beyond which 1 − P is lost.
_SAID, _LOST = (math.log(1e-12), math.log(1e4)), 36.0


def amount(value: float, digits: int = 4) -> str:
    """A number in a sentence: so many decimals at most, none that say nothing, a real minus sign.

    >>> amount(0.5), amount(-1 / 3), amount(2e-7), amount(12.0)
    ('0.5', '−0.3333', '2e−07', '12')
    """
    text = cell(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def cell(value: float | None, digits: int = 6) -> str:
    """A number in a table: so many decimals, so that they stand in line; whole numbers bare, for they are exact.

    >>> cell(0.25), cell(1.0), cell(-0.0), cell(1e-9), cell(None)
    ('0.250000', '1', '0', '1e−09', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e6:
        text = str(int(value))
    elif 10**-digits <= abs(value) < 1e6:
        text = f"{value:.{digits}f}"
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−")


def factor(log: float, digits: int = 2) -> str:
    """A factor or a probability from its natural logarithm, so that none is too large or too small to say.

    >>> factor(math.log(1.5)), factor(1100.0), factor(-1100.0)
    ('1.5', 'e^1100', 'e^−1100')
    """
    return amount(math.exp(log), digits) if _SAID[0] < log < _SAID[1] else f"e^{amount(log, 1)}"


def rounding(log_odds: float) -> str:
    """What to note below a table with a probability of these log-odds in it; nothing where doubles hold it well.

    >>> rounding(2.0), rounding(-2000.0)
    ('', 'P is too near to 0 or 1 for double precision: whole numbers here may be rounded.')
    """
    return (
        "P is too near to 0 or 1 for double precision: whole numbers here may be rounded."
        if abs(log_odds) > _LOST
        else ""
    )


def joined(names: Sequence[str], last: str = "and") -> str:
    """Names as a sentence lists them.

    >>> joined(["y1"]), joined(["y1", "y2", "y3"]), joined(["a", "b"], "or")
    ('y1', 'y1, y2 and y3', 'a or b')
    """
    return f" {last} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def share(value: float) -> str:
    """A share in per cent, with one decimal where it needs it.

    >>> share(0.25), share(0.4706), share(0.00031)
    ('25 %', '47.1 %', '0.031 %')
    """
    percent = 100 * value
    return f"{percent:.2g} %" if 0 < percent < 0.05 else f"{round(percent, 1):g} %"
