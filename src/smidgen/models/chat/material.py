"""Material to be judged: texts of others between tags that none of them can close, so that they stay data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def nonce_of(*texts: str) -> str:
    """16 hex digits that follow from the texts and occur in none of them.

    >>> nonce_of("Why?", "Because.") == nonce_of("Why?", "Because.") != nonce_of("Why?", "Because!")
    True
    """
    turn = 0
    while True:
        digest = hashlib.sha256(f"{turn}".encode())
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(f" {len(data)} ".encode() + data)
        nonce = digest.hexdigest()[:16]
        if not any(nonce in text for text in texts):
            return nonce
        turn += 1


def tagged(texts: Mapping[str, str], nonce: str) -> str:
    r"""Texts, each between two tags of its name that carry the nonce.

    >>> tagged({"answer": "Yes."}, "12ab")
    '<answer-12ab>\nYes.\n</answer-12ab>'
    """
    return "\n\n".join(f"<{name}-{nonce}>\n{text}\n</{name}-{nonce}>" for name, text in texts.items())
