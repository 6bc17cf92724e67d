"""Where a teacher stands, and which key it is shown: checked before anything is sent.

A key leaves this machine encrypted or not at all.
"""

from __future__ import annotations

import ipaddress
import os
import re

import httpx2

from smidgen.errors import UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "none"
_EXAMPLE = "for example http://localhost:8000/v1"
_ENDING = "/chat/completions"


def check_url(url: str) -> str:
    """An endpoint's address without the path of the call itself.

    Raises:
        UsageError: Not an address of HTTP, or one that holds a user, a password, a query or a fragment. What such
            an address holds is not repeated, since it may be secret.

    >>> check_url("http://localhost:8000/v1/chat/completions/")
    'http://localhost:8000/v1'
    """
    try:
        parsed = httpx2.URL(url.strip())
    except httpx2.InvalidURL:
        raise UsageError(f"expected --teacher with an address, {_EXAMPLE}, got one that cannot be read.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(
            f"expected --teacher with http:// or https:// and a host, {_EXAMPLE}, or `local`, got neither. "
            "Give one of them."
        )
    if parsed.userinfo:
        raise UsageError(
            "expected --teacher without user and password, got some in the address. Put the key into the environment "
            f"as {KEY_VARIABLE}, or name another variable by --key-variable."
        )
    if parsed.query or parsed.fragment:
        raise UsageError(
            f"expected --teacher without `?` and `#`, {_EXAMPLE}, got an address that holds one. Leave it out; a key "
            f"belongs into the environment, as {KEY_VARIABLE}."
        )
    return str(parsed).rstrip("/").removesuffix(_ENDING).rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own.

    >>> is_loopback("http://127.0.0.1:8000/v1"), is_loopback("http://127.0.0.1.example.org/v1")
    (True, False)
    """
    host = httpx2.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_variable(name: str | None) -> None:
    """UsageError where this names no set variable; the name is not repeated, since people paste keys."""
    if name in (None, NO_KEY):
        return
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not os.environ.get(name, "").strip():
        raise UsageError(
            "expected --key-variable with the name of an environment variable that holds the key, got something else, "
            f"or one that is not set. Set it, or take --key-variable {NO_KEY} to send no key."
        )


def read_key(url: str, variable: str | None) -> str:
    """The key for a checked address, from the environment; empty where none is to be sent.

    Args:
        variable: Where it stands; OPENAI_API_KEY where None, no key at all where "none".

    Raises:
        UsageError: No key for a server elsewhere, a key that would travel unencrypted, or one that is no key.
    """
    check_variable(variable)
    name = variable or KEY_VARIABLE
    key = "" if name == NO_KEY else os.environ.get(name, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"expected a key of plain characters in {name}, got other ones. Set it again.")
    at_home = is_loopback(url)
    if key and not at_home and not url.startswith("https://"):
        raise UsageError(
            f"expected https:// for a server that is sent a key, got plain http:// and a key in {name}. "
            f"Take https://, or send no key with --key-variable {NO_KEY}."
        )
    if not key and name != NO_KEY and not at_home and url.startswith("https://"):
        raise UsageError(
            f"expected a key in the environment variable {name}, got none. Set it, name another by --key-variable, or "
            f"take --key-variable {NO_KEY} where the server wants no key."
        )
    return key
