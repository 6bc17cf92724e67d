"""Votes: every rater her own order and sides, one verdict a match, undone and not forgotten, there after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.human import MATCHES, VOTES, HumanVotes, read_human_verdicts
from smidgen.evaluation.matches import Match, write_matches
from smidgen.evaluation.raters import a_is_left, rater_name, rater_order
from smidgen.evaluation.verdicts import Verdict


def matches(n: int = 6) -> list[Match]:
    return [
        Match(number=i, letter="A", prompt=f"p{i}", model_a="x", model_b="y", a=f"a{i}", b=f"b{i}")
        for i in range(1, n + 1)
    ]


@pytest.fixture
def votes(tmp_path: Path) -> HumanVotes:
    write_matches(tmp_path / MATCHES, matches())
    return HumanVotes(tmp_path)


def judge_all(votes: HumanVotes, rater: str, side: str | None) -> list[int]:
    """Say the same of everything; the places in the order that they came."""
    places = []
    while shown := votes.next(rater):
        assert votes.cast(rater, shown.place, side)
        places.append(shown.place)
    return places


def test_what_is_cast_is_read_back_as_who_was_better_wherever_it_stood(votes):
    while shown := votes.next("ada"):
        votes.cast("ada", shown.place, "left" if shown.left.startswith("a") else "right")
    verdicts = read_human_verdicts(votes.folder)
    assert verdicts == [
        Verdict(judge="human", rater="ada", number=m.number, letter="A", model_a="x", model_b="y", outcome=1.0)
        for m in matches()
    ]


def test_ties_are_ties_and_skips_are_no_verdicts(votes):
    first = votes.next("ada")
    votes.cast("ada", first.place, "tie")
    judge_all(votes, "ada", None)
    assert [verdict.outcome for verdict in read_human_verdicts(votes.folder)] == [0.5]
    progress = votes.progress("ada")
    assert (progress.n_judged, progress.n_passed, progress.done) == (1, 5, True)


def test_a_skipped_match_comes_once_more_at_the_end(votes):
    first = votes.next("ada")
    assert not first.again
    votes.cast("ada", first.place, None)
    places = judge_all(votes, "ada", "left")
    assert places == [1, 2, 3, 4, 5, 0] and votes.progress("ada").n_judged == 6


def test_sides_are_a_fair_coin_for_each_rater_and_match_and_never_fall_anew():
    many = matches(2000)
    for rater in ("ada", "grace"):
        left = [a_is_left(rater, match) for match in many]
        assert left == [a_is_left(rater, match) for match in many]
        assert abs(sum(left) - 1000) < 4 * (2000 * 0.25) ** 0.5
    assert 850 < sum(a_is_left("ada", m) == a_is_left("grace", m) for m in many) < 1150


def test_orders_are_permutations_of_their_own():
    many = matches(50)
    ada, grace = rater_order("ada", many), rater_order("grace", many)
    assert sorted(ada) == sorted(grace) == list(range(50)) and ada != grace
    assert ada == rater_order("ada", many)


@settings(deadline=None, max_examples=30)
@given(steps=st.lists(st.sampled_from(["left", "right", "tie", None, "undo"]), max_size=20))
def test_undo_always_brings_back_what_was_there_before(tmp_path_factory, steps: Sequence[str | None]):
    folder = tmp_path_factory.mktemp("votes")
    write_matches(folder / MATCHES, matches(4))
    votes, past = HumanVotes(folder), []
    for step in steps:
        now = (votes.next("ada"), votes.progress("ada"), read_human_verdicts(folder))
        if step == "undo":
            assert votes.undo("ada") == bool(past)
            if past:
                assert (votes.next("ada"), votes.progress("ada"), read_human_verdicts(folder)) == past.pop()
        elif now[0] is not None:
            past.append(now)
            votes.cast("ada", now[0].place, step)


def test_what_was_undone_stays_in_the_file(votes):
    shown = votes.next("ada")
    votes.cast("ada", shown.place, "left")
    votes.undo("ada")
    votes.cast("ada", shown.place, "right")
    with closing(sqlite3.connect(votes.path)) as database:
        rows = database.execute("SELECT outcome, undone_at IS NULL, cast_at FROM votes ORDER BY id").fetchall()
    assert [counts for _, counts, _ in rows] == [0, 1] and rows[0][0] == 1 - rows[1][0] and rows[0][2]


def test_a_match_has_one_verdict_of_a_rater_whatever_windows_are_open(votes):
    shown = votes.next("ada")
    assert votes.cast("ada", shown.place, "left")
    assert not HumanVotes(votes.folder).cast("ada", shown.place, "right")
    assert not votes.cast("ada", shown.place, None)
    assert votes.cast("grace", 0, "right")
    assert len(read_human_verdicts(votes.folder)) == 2


def test_who_has_finished_judges_no_more_and_takes_nothing_back(votes):
    shown = votes.next("ada")
    votes.cast("ada", shown.place, "left")
    votes.finish("ada")
    assert votes.next("ada") is None and votes.progress("ada").done
    assert not votes.cast("ada", 1, "left") and not votes.undo("ada")
    assert len(read_human_verdicts(votes.folder)) == 1


@pytest.mark.parametrize(("place", "side"), [(-1, "left"), (6, "left"), (0, "middle")])
def test_only_what_is_shown_can_be_judged(votes, place, side):
    with pytest.raises(UsageError, match="Reload"):
        votes.cast("ada", place, side)


def test_votes_on_other_matches_are_never_taken_for_votes_on_these(votes):
    votes.cast("ada", 0, "left")
    write_matches(votes.folder / MATCHES, [*matches(5), matches(7)[-1]])
    with pytest.raises(InvalidData, match="votes on others"):
        HumanVotes(votes.folder)
    with pytest.raises(InvalidData, match="votes on others"):
        read_human_verdicts(votes.folder)
    # What the error advises is enough.
    write_matches(votes.folder / MATCHES, matches())
    assert len(read_human_verdicts(votes.folder)) == 1 and HumanVotes(votes.folder).progress("ada").n_judged == 1


def test_a_folder_without_votes_has_none_and_gets_no_file(tmp_path):
    write_matches(tmp_path / MATCHES, matches())
    assert read_human_verdicts(tmp_path) == [] and not (tmp_path / VOTES).exists()


@pytest.mark.parametrize("rows", [[], [matches(1)[0], matches(1)[0]]])
def test_matches_that_cannot_be_told_apart_are_refused(tmp_path, rows):
    write_matches(tmp_path / MATCHES, rows)
    with pytest.raises(InvalidData):
        HumanVotes(tmp_path)


def test_a_file_that_is_no_database_is_named(votes):
    votes.path.write_bytes(b"not a database, and long enough to be looked at" * 9)
    with pytest.raises(InvalidData, match=VOTES):
        votes.next("ada")


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x00b", "a\u202eb", "\x1b[31mred", "\ud800"])
def test_names_that_cannot_be_seen_are_refused(name):
    with pytest.raises(UsageError):
        rater_name(name)


def test_names_that_look_equal_are_equal():
    assert rater_name("Zoe\u0301  B ") == rater_name(" Zo\u00e9 B") == "Zo\u00e9 B"


def test_votes_survive_a_kill_in_the_midst_of_voting(votes):
    script = textwrap.dedent(
        """
        import sys
        from smidgen.evaluation.human import HumanVotes
        votes = HumanVotes(sys.argv[1])
        for round in range(10_000):
            shown = votes.next("ada")
            votes.cast("ada", shown.place, "left")
            print(round, flush=True)
            if round % 5 == 4:
                votes.undo("ada")
        """
    )
    write_matches(votes.folder / MATCHES, many := matches(400))
    votes.path.unlink()
    process = subprocess.Popen([sys.executable, "-c", script, votes.folder], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(23)]
    process.send_signal(signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    n = len(said)
    # The last undo, or a vote that was on disk before its line was out, may have come through or not.
    assert n - n // 5 <= len(read_human_verdicts(votes.folder)) <= n - (n - 1) // 5 + 1
    assert HumanVotes(votes.folder).next("ada") is not None and len(many) == 400
