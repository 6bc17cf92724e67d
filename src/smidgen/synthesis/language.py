"""Which language a text is in, where that can be told."""

from __future__ import annotations

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

# Below this many letters even a whole sentence is often taken for a neighbouring language.
LEAST_LETTERS = 40
LEAST_CONFIDENCE = 0.9
# The beginning tells; more takes time only.
_CHARACTERS = 500


def language_of(text: str) -> str | None:
    """A text's language as an ISO 639-1 code; None for a text too short to judge, or one in doubt.

    >>> language_of("The bread has to rest for an hour, and then it bakes for another half hour or so.")
    'en'
    >>> language_of("Bonjour.") is None
    True
    """
    if sum(map(str.isalpha, text)) < LEAST_LETTERS:
        return None
    language, confidence = _identifier().classify(text[:_CHARACTERS])
    return language if confidence >= LEAST_CONFIDENCE else None


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
