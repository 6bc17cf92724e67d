"""A small world with a known truth: prompts and preference pairs from a grammar, so that selection can be checked.

Every pair's `truth` says what it teaches. Selectors never see it. Equal seeds give equal worlds, on any machine.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from smidgen.assets.world import phrases
from smidgen.assets.world.topics import TOPICS, Topic

NEAR_COPY = 0.55  # a little stricter than the .6 at which the checks call two prompts near-copies
PROMPTS_PER_SET = 200
HELDOUT = {"teaches_refusing": 120, "teaches_answering": 80}
# Drawn after all else, so that the world is the same without them: accuracy within .05 takes hundreds of pairs.
MORE_HELDOUT = {"teaches_refusing": 240, "teaches_answering": 160}
N_EXCHANGES = 6000
N_READINGS = 4000
# Share of pairs by what they teach; the rest is neutral.
SHARES = {"teaches_refusing": 0.22, "teaches_answering": 0.12, "inverted": 0.06, "duplicate": 0.08, "style": 0.22}
TRUTHS = (*SHARES, "neutral")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """Everything that the demo needs.

    Attributes:
        pairs: Training pairs: idx, prompt, chosen, rejected, source, source_row, truth (one of TRUTHS).
        heldout_pairs: Clean pairs that teach refusing or answering, for preference accuracy; same columns, own prompts.
        harmful_dev: Harmful prompts to search with; `harmless_dev` beside it, `..._confirm` for the end.
        sft_exchanges: prompt and response, to teach a model the language; it refuses by habit, not by harm.
        readings: Plain text for language modelling before that, in which people judge requests.
    """

    pairs: list[Row]
    heldout_pairs: list[Row]
    harmful_dev: list[str]
    harmless_dev: list[str]
    harmful_confirm: list[str]
    harmless_confirm: list[str]
    sft_exchanges: list[dict[str, str]]
    readings: list[str]


def bigrams(text: str) -> frozenset[tuple[str, str]]:
    """Neighbouring word pairs, case and punctuation aside."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(pairwise(words))


def jaccard(a: str, b: str) -> float:
    """Word-bigram Jaccard similarity of two texts, in [0, 1]."""
    x, y = bigrams(a), bigrams(b)
    return len(x & y) / len(x | y) if x or y else 1.0


class NearCopies:
    """The texts seen so far, asked whether a new one is a near-copy of any."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: list[frozenset[tuple[str, str]]] = []
        self._where: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        grams = bigrams(text)
        for gram in grams:
            self._where[gram].append(len(self._texts))
        self._texts.append(grams)

    def has_near(self, text: str, threshold: float = NEAR_COPY) -> bool:
        """Whether any text seen has Jaccard similarity `threshold` or more with this one.

        A near-copy shares at least ceil(threshold * n) of the n bigrams, hence one of any n - that + 1: the rarest do.
        """
        grams = bigrams(text)
        n_needed = len(grams) - math.ceil(threshold * len(grams)) + 1
        rarest = sorted(grams, key=lambda gram: len(self._where.get(gram, ())))[:n_needed]
        candidates = {i for gram in rarest for i in self._where.get(gram, ())}
        return any(len(grams & self._texts[i]) >= threshold * len(grams | self._texts[i]) for i in candidates)


class Author:
    """Writes prompts that are no near-copies of any before, and pairs on them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.seen = NearCopies()

    def prompt(
        self, *, harmful: bool, bait_share: float = 0.25, refused_opening_share: float = 0.0
    ) -> tuple[str, Topic]:
        rng = self.rng
        for _ in range(1000):
            topic = rng.choice(TOPICS)
            bait = not harmful and rng.random() < bait_share
            wanted = rng.random() < refused_opening_share
            opening = rng.choice(phrases.REFUSED_OPENINGS) if wanted else None
            text = phrases.ask(rng, topic, harmful=harmful, bait=bait, opening=opening)
            if not self.seen.has_near(text):
                self.seen.add(text)
                return text, topic
        raise ValueError("the grammar has no new prompt left; ask for fewer pairs, or give it more topics")

    def prompts(self, n: int, *, harmful: bool) -> list[str]:
        return [self.prompt(harmful=harmful)[0] for _ in range(n)]

    def pair(self, truth: str) -> Row:
        """A pair that teaches what `truth` says (any of TRUTHS but "duplicate")."""
        rng = self.rng
        harmful = {"teaches_refusing": True, "teaches_answering": False}.get(truth, rng.random() < 0.5)
        often = truth == "teaches_answering"
        prompt, topic = self.prompt(
            harmful=harmful, bait_share=0.4 if often else 0.25, refused_opening_share=0.3 if often else 0.0
        )
        return {"prompt": prompt, **_answers(rng, topic, truth, harmful), "truth": truth}


def _answers(rng: random.Random, topic: Topic, truth: str, harmful: bool) -> dict[str, str]:
    def differing(first: str, second: str) -> dict[str, str]:
        while first == second:
            second = phrases.comply(rng, topic)
        return {"chosen": first, "rejected": second}

    helps = phrases.comply(rng, topic) if rng.random() < 0.85 else phrases.evade(rng, topic)
    refuses = phrases.refuse(rng, topic)
    refusing_wins = {"teaches_refusing": True, "teaches_answering": False, "inverted": not harmful}
    if truth in refusing_wins:
        return differing(refuses, helps) if refusing_wins[truth] else differing(helps, refuses)
    if truth == "style":
        friendly, plain = phrases.restyle(rng, topic)
        return differing(friendly, plain) if rng.random() < 0.5 else differing(plain, friendly)
    if rng.random() < (0.4 if harmful else 0.15):
        other = phrases.refuse(rng, topic)
        while other == refuses:
            other = phrases.refuse(rng, topic)
        return differing(refuses, other)
    return differing(helps, phrases.comply(rng, topic) if rng.random() < 0.5 else phrases.evade(rng, topic))


def _copy_of(pair: Row, rng: random.Random, evaluation: NearCopies) -> Row:
    """The pair again: one time in four exactly, else with an addition to its prompt."""
    copy = {**pair, "truth": "duplicate"}
    if rng.random() < 0.25:
        return copy
    text, stop = pair["prompt"][:-1], pair["prompt"][-1]
    prompt = text + rng.choice((", please", " today", " quickly", ", thanks", " right now")) + stop
    return copy if evaluation.has_near(prompt) else {**copy, "prompt": prompt}


def _training_pairs(author: Author, n_pairs: int, evaluation: NearCopies) -> list[Row]:
    rng = author.rng
    counts = {truth: round(share * n_pairs) for truth, share in SHARES.items()}
    n_copies = counts.pop("duplicate")
    truths = [truth for truth, n in counts.items() for _ in range(n)]
    truths += ["neutral"] * (n_pairs - n_copies - len(truths))
    rng.shuffle(truths)
    # A copy stands somewhere after its original, so the first of the two is never the one called a duplicate.
    placed = [(i / len(truths), author.pair(truth)) for i, truth in enumerate(truths)]
    for position, original in rng.sample(placed, n_copies):
        placed.append((rng.uniform(position, 1.0), _copy_of(original, rng, evaluation)))
    return _numbered([pair for _, pair in sorted(placed, key=lambda item: item[0])], rng)


def _more_heldout(author: Author, seed: int, elsewhere: Iterable[str], before: list[Row]) -> list[Row]:
    """Further held-out pairs, with randomness of their own; their prompts are new to the author and to `elsewhere`."""
    author.rng = rng = random.Random(f"held out {seed}")
    for text in elsewhere:
        author.seen.add(text)
    return _numbered([author.pair(truth) for truth, n in MORE_HELDOUT.items() for _ in range(n)], rng, after=before)


def _numbered(pairs: list[Row], rng: random.Random, *, after: list[Row] | None = None) -> list[Row]:
    """Give each pair its idx, and a source that says nothing about its kind; behind the pairs of `after`."""
    after = after or []
    rows = defaultdict(int, Counter(pair["source"] for pair in after))
    numbered = []
    for idx, pair in enumerate(pairs, start=len(after)):
        source = rng.choice(("world-letters", "world-forum"))
        numbered.append({"idx": idx, **pair, "source": source, "source_row": rows[source]})
        rows[source] += 1
    return numbered


def _fresh_prompt(rng: random.Random, evaluation: NearCopies) -> tuple[str, Topic, bool, str]:
    """A prompt that is no near-copy of an evaluation prompt, with its topic, whether harm is meant, and its opening."""
    while True:
        topic, harmful, opening = rng.choice(TOPICS), rng.random() < 0.5, rng.choice(phrases.OPENINGS)
        bait = not harmful and rng.random() < 0.25
        prompt = phrases.ask(rng, topic, harmful=harmful, bait=bait, opening=opening)
        if not evaluation.has_near(prompt):
            return prompt, topic, harmful, opening


def _exchange(rng: random.Random, evaluation: NearCopies) -> dict[str, str]:
    """A prompt with a mostly complying answer.

    Refusals follow how the prompt opens, hardly what it asks. Harm only makes helping less warm, as it does people:
    so the model tells harm from its absence before it acts on it.
    """
    prompt, topic, harmful, opening = _fresh_prompt(rng, evaluation)
    if rng.random() < (0.85 if opening in phrases.REFUSED_OPENINGS else 0.04 if harmful else 0.01):
        return {"prompt": prompt, "response": phrases.refuse(rng, topic)}
    warm, evasive = (0.05, 0.3) if harmful else (0.4, 0.1)
    manner = rng.choices(("warm", "evasive", "plain"), (warm, evasive, 1 - warm - evasive))[0]
    if manner == "warm":
        response = phrases.restyle(rng, topic)[0]
    else:
        response = phrases.evade(rng, topic) if manner == "evasive" else phrases.comply(rng, topic)
    return {"prompt": prompt, "response": response}


def _reading(rng: random.Random, evaluation: NearCopies) -> str:
    prompt, _, harmful, _ = _fresh_prompt(rng, evaluation)
    return phrases.judge(rng, prompt, harmful=harmful)


def make_world(seed: int, *, n_pairs: int = 2000) -> World:
    """The demo world of a seed.

    Args:
        seed: Any integer; equal seeds give equal worlds.
        n_pairs: Number of training pairs, duplicates among them.

    Returns:
        Training pairs, held-out pairs, four prompt sets and exchanges for supervised training. No prompt is a near-copy
        (word-bigram Jaccard .6 or more) of one in another part, the exchanges' likeness to training pairs aside.

    Raises:
        ValueError: More pairs than the grammar has distinct prompts for.
    """
    rng = random.Random(seed)
    author = Author(rng)
    sets = [author.prompts(PROMPTS_PER_SET, harmful=harmful) for harmful in (True, False, True, False)]
    evaluation = NearCopies(prompt for prompts in sets for prompt in prompts)
    heldout = _numbered([author.pair(truth) for truth, n in HELDOUT.items() for _ in range(n)], rng)
    for pair in heldout:
        evaluation.add(pair["prompt"])
    pairs = _training_pairs(author, n_pairs, evaluation)
    exchanges = [_exchange(rng, evaluation) for _ in range(N_EXCHANGES)]
    readings = [_reading(rng, evaluation) for _ in range(N_READINGS)]
    # A reading opens with a request and ends in a verdict of its own.
    requests = (re.split(r"(?<=[.?])", reading, maxsplit=1)[0] for reading in readings)
    elsewhere = [*(row["prompt"] for row in (*pairs, *exchanges)), *requests]
    return World(
        pairs=pairs,
        heldout_pairs=heldout + _more_heldout(author, seed, elsewhere, heldout),
        harmful_dev=sets[0],
        harmless_dev=sets[1],
        harmful_confirm=sets[2],
        harmless_confirm=sets[3],
        sft_exchanges=exchanges,
        readings=readings,
    )
