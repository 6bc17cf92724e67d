"""Comparisons: worked by hand, all ties for equal files, mirrored by a swap, words that follow from the numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.conclusion import conclusion, leader
from smidgen.evaluation.judges.base import judge, load_judge
from smidgen.evaluation.matches import Match, matches_of
from smidgen.evaluation.sidebyside import BY_LENGTH, Comparison, compare, latest, majority, turn
from smidgen.evaluation.verdicts import Verdict


def written(model: str, seed: int, n: int = 12, longest: int = 30) -> Completions:
    rng = np.random.default_rng(seed)
    words = ["the", "sea", "is", "a", "tale", "told", "by", "an", "idiot", "full", "of", "sound", "and", "fury"]
    rows = [
        Completed(f"p{i}", tuple(" ".join(rng.choice(words, rng.integers(1, longest))) for _ in "ABC"))
        for i in range(n)
    ]
    return Completions(model=model, rows=tuple(rows))


def judged(matches: list[Match], *specs: str) -> list[Verdict]:
    return [replace(v, judge=spec) for spec in specs for v in load_judge(spec)(matches)]


SPECS = ("longer:tie_within=2", "less_repetitive", "keywords:words=sea")


def compared(first: Completions, second: Completions) -> Comparison:
    matches = matches_of([first, second])
    return compare(judged(matches, *SPECS), matches, models=(first.model, second.model))


def test_equal_files_tie_everywhere() -> None:
    found = compared(written("a", 1), written("b", 1))
    for result in found.results:
        assert (result.tally.wins, result.tally.losses, result.tally.ties) == (0, 0, 36)
        assert result.rate and result.rate.mean == 0.5 and result.rate.low < 0.5 < result.rate.high
        assert result.p == 1.0 and leader(result) is None
        assert all(part.tally.ties == part.tally.n for part in (*result.letters, *result.prompts))
    assert all("tie on every verdict" in text for text in conclusion(found)[1:4])


def test_a_swap_mirrors_every_number() -> None:
    a, b = written("a", 1), written("b", 2, longest=45)
    mine, theirs = compared(a, b), compared(b, a)
    for one, other in zip(mine.results, theirs.results, strict=True):
        assert (one.tally.wins, one.tally.losses, one.p) == (other.tally.losses, other.tally.wins, other.p)
        assert one.rate and other.rate
        assert (one.rate.mean, one.rate.low) == pytest.approx((1 - other.rate.mean, 1 - other.rate.high))
        even, also = one.at_equal_length, other.at_equal_length
        # A judge of length alone has nothing to say at equal length.
        assert (even is None) == (also is None) == one.judge.startswith("longer")
        if even and also:
            assert even.note == also.note and (even.interval is None) == (also.interval is None)
            if even.interval and also.interval:
                x, y = even.interval, also.interval
                assert (x.mean, x.low, x.high) == pytest.approx((1 - y.mean, 1 - y.high, 1 - y.low))
        for p, q in zip((*one.prompts, *one.letters), (*other.prompts, *other.letters), strict=True):
            assert (p.name, p.tally.wins, p.tally.ties) == (q.name, q.tally.losses, q.tally.ties)
        assert leader(one) == leader(other)
    assert mine.characters == theirs.characters
    assert [x.agreement for x in mine.accords] == [x.agreement for x in theirs.accords]


def test_the_judges_of_length_alone_are_judges() -> None:
    assert {*BY_LENGTH} <= {*judge.names()}


def test_a_letter_is_named_where_it_is_clearly_the_others() -> None:
    won = {letter: [1.0] * 30 for letter in "AB"}
    for others, named in (([0.0] * 30, True), ([0.0] * 16 + [1.0] * 14, False)):
        rows = [verdict(n, x, o) for x, outcomes in (won | {"C": others}).items() for n, o in enumerate(outcomes)]
        (text,) = conclusion(compare(rows, []))
        assert ("letter C goes to b" in text) is named


def verdict(number: int, letter: str, outcome: float | None, judge: str = "j", **more: str) -> Verdict:
    return Verdict(judge=judge, number=number, letter=letter, model_a="a", model_b="b", outcome=outcome, **more)  # pyright: ignore[reportArgumentType]


def test_a_table_by_hand_and_its_words() -> None:
    outcomes = {1: (1, 1, 1), 2: (1, 0.5, 0), 3: (0, 0, 1), 4: (1, 1, None)}
    verdicts = [
        verdict(n, "ABC"[i], o, problem="" if o is not None else "cut")
        for n, os in outcomes.items()
        for i, o in enumerate(os)
    ]
    (result,) = compare(verdicts).results

    assert (result.tally.wins, result.tally.losses, result.tally.ties, result.missing) == (7, 3, 1, {"cut": 1})
    assert result.rate and result.rate.mean == pytest.approx(7.5 / 11) and result.at_equal_length is None
    assert [(p.name, p.tally.wins, p.tally.losses) for p in result.letters] == [("A", 3, 1), ("B", 2, 1), ("C", 2, 1)]
    (text,) = conclusion(compare(verdicts))
    assert "cannot be told apart: a has 68.2% [" in text and "7 won, 3 lost, 1 tied" in text
    assert "ahead on 2 prompts, level on 1, and behind on 1 (3)" in text and "1 match has no verdict (1 cut)" in text


def test_where_test_and_interval_part_the_words_say_so() -> None:
    two_of_three = [verdict(n, "ABC"[i], o) for n in range(7) for i, o in enumerate((1, 1, 0))]
    (result,) = compare(two_of_three).results
    # Seven prompts, all for a: the signs fall so in 2 of 128 cases; the interval has one more unit of deviation.
    assert result.p == pytest.approx(2 / 128) and leader(result) is None
    (text,) = conclusion(compare(two_of_three))
    assert "cannot be told apart" in text and "The sign-flip test alone" in text and "holds a half" in text
    (even,) = conclusion(compare([verdict(n, "A", n % 2) for n in range(8)]))
    assert "sign-flip" not in even


def test_the_words_turn_with_the_numbers() -> None:
    lost = [verdict(n, "A", float(n % 10 == 0)) for n in range(1, 41)]
    (text,) = conclusion(compare(lost))
    assert text.startswith("By j, b is preferred to a: 90.0%") and "behind on 4 (10, 20, 30, 40)" in text
    assert leader(compare(lost).results[0]) == "b"
    (none,) = conclusion(compare([verdict(1, "A", None, problem="cut")]))
    assert "nothing can be said" in none
    two = [*lost, *(replace(v, judge="k", outcome=1 - (v.outcome or 0)) for v in lost)]
    assert any("1 for a (k); 1 for b (j)" in text for text in conclusion(compare(two)))


def test_either_order_of_names_and_later_verdicts_count() -> None:
    (result,) = compare([verdict(1, "A", 1.0), turn(verdict(2, "A", 1.0)), verdict(1, "A", 0.0)]).results
    assert (result.tally.wins, result.tally.losses) == (1, 1)
    (last,) = latest([verdict(1, "A", 1.0), turn(verdict(1, "A", 0.0))])
    assert last == turn(verdict(1, "A", 0.0)), "of one match, whichever model is named first"
    assert turn(turn(verdict(1, "A", 0.5))) == verdict(1, "A", 0.5)


def test_people_are_counted_one_by_one_and_agree_by_majority() -> None:
    people = [
        verdict(n, "A", o, judge="human", rater=r)
        for r, os in {"x": (1, 1, 0), "y": (1, 0, 0)}.items()
        for n, o in enumerate(os)
    ]
    rule = [verdict(n, "A", o, judge="rule") for n, o in enumerate((1, 0.5, 0))]
    found = compare([*people, *rule])

    human = next(r for r in found.results if r.judge == "human")
    assert human.tally.n == 6 and human.raters == ("x", "y")
    assert list(majority(people).values()) == [1.0, 0.5, 0.0]
    accords = {x.who: x.agreement for x in found.accords}
    assert "Krippendorff's α of human, rule is 1.00" in conclusion(found)[-1]
    both, pair = accords["human", "rule"], accords["human x", "human y"]
    assert both and both.alpha == 1.0 and pair and pair.observed == pytest.approx(2 / 3)


def test_nothing_at_all() -> None:
    found = compare([])
    assert found.results == () and conclusion(found) == []
