"""Numbers on the command line: whole where whole ones are meant. Their ranges are declared where their types are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, get_args, get_origin

from cyclopts import App, Argument

from smidgen.errors import UsageError


def refuse_fractions(app: App, commands: Sequence[str], arguments: Iterable[Argument]) -> None:
    """Refuse 2.5 for a whole number, before cyclopts rounds it; the form is that of cyclopts' readers of settings.

    Raises:
        UsageError: A fraction, from a flag or a file.
    """
    for argument in arguments:
        if not _is_whole(argument.hint):
            continue
        for token in argument.tokens:
            if _is_fraction(token.value):
                raise UsageError(
                    f"expected a whole number for {argument.name}, got {token.value}; give one, or leave it out."
                )


def _is_whole(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _is_whole(get_args(hint)[0])
    kinds = [kind for kind in get_args(hint) if kind not in (type(None), ...)]
    return all(map(_is_whole, kinds)) if kinds else hint is int


def _is_fraction(text: str) -> bool:
    try:
        return "." in text and not float(text).is_integer()
    except ValueError:
        return False
