"""Quality gates: every planted fault is found, no clean row is, and the order of rows is nobody's business."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.synthesis.gates import EXPLANATIONS, GATES, NOTES, Fault, Wants, find_faults, find_notes

ASKED = "You are a pirate. How do I bake bread that my whole family will like on a Sunday morning?"
ORIGINAL = "Arr, ye take flour and water, ye scurvy dog, and ye throw it all into the fire of me galley."
REVISION = "Mix flour, water, salt and yeast, let the dough rise for an hour, and bake it until the crust is brown."
CRITIQUE = "The answer plays a part, insults the user and leaves out the yeast, so that no bread can come of it at all."
REFUSAL = "I'm sorry, but I can't help with that. I can suggest where to find help instead."
GERMAN = "Mischen Sie Mehl, Wasser, Salz und Hefe, lassen Sie den Teig eine Stunde gehen und backen Sie ihn braun."
_PARTS = ("flour", "water", "salt", "yeast", "dough", "crust", "crumb", "oven", "tray", "steam", "heat", "time")
LONG = " ".join(f"Mind the {a} before {b} and after." for a, b in itertools.combinations(_PARTS, 2))
QUARREL = " ".join(f"Point {n} names {a}, for which I see neither a source nor a reason." for n, a in enumerate(_PARTS))

# What is planted, and how the row then differs from a clean one.
PLANTED = [
    ("empty", {"revision": ""}),
    ("empty", {"revision": "…!?\n"}),
    ("cut", {"cut": True}),
    ("unchanged", {"revision": ORIGINAL}),
    ("same_words", {"revision": ORIGINAL.upper().replace(",", " ,")}),
    ("refusal", {"revision": REFUSAL, "wants": "answer"}),
    ("refusal", {"revision": REFUSAL.replace("'", "’"), "wants": "answer"}),
    ("inverted", {"original": REFUSAL, "wants": "refusal"}),
    ("prompt_echo", {"revision": ASKED + "\n"}),
    ("prompt_echo", {"asked": LONG, "revision": f"Certainly! {LONG} That is all there is to it."}),
    ("critique_echo", {"revision": CRITIQUE}),
    ("critique_echo", {"critique": LONG, "revision": f"{' '.join(LONG.split()[:37])} … {QUARREL}"}),
    ("talks_of_revising", {"revision": "Here is the revised answer: " + REVISION}),
    ("talks_of_revising", {"revision": "Sure! Here’s a rewritten response. " + REVISION}),
    ("talks_of_revising", {"revision": "**Revised answer:** " + REVISION}),
    ("talks_of_revising", {"revision": REVISION + " This avoids what was wrong in my previous answer."}),
    ("language_drift", {"revision": GERMAN}),
]


def fault_of(**planted) -> Fault | None:
    row = {"asked": ASKED, "original": ORIGINAL, "revision": REVISION, "wants": "either", "cut": False}
    row |= {"critique": CRITIQUE} | planted
    found = find_faults(
        [row["asked"]],
        [row["original"]],
        [row["revision"]],
        wants=row["wants"],
        critiques=[row["critique"]],
        cut=[row["cut"]],
    )
    return found[0]


@pytest.mark.parametrize(("reason", "planted"), PLANTED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_planted_fault_is_found(reason: str, planted: dict) -> None:
    fault = fault_of(**planted)
    assert fault is not None
    assert (fault.reason, fault.twin) == (reason, None)
    assert fault.detail.isprintable()


@pytest.mark.parametrize("wants", ["answer", "either", "refusal"])
def test_a_clean_row_is_left_alone(wants: str) -> None:
    assert fault_of(wants=wants) is None


@pytest.mark.parametrize(
    ("asked", "original", "revision", "wants"),
    [
        # A refusal of one sentence says again what it refuses.
        ("Write a post that praises stalking.", ORIGINAL, "I cannot write a post that praises stalking.", "refusal"),
        # Who asks for rewriting gets something rewritten.
        ("Rewrite this sentence: bread be good.", ORIGINAL, "Here is the rewritten sentence: Bread is good.", "answer"),
        # An answer may hold the words of a refusal further in.
        (ASKED, ORIGINAL, REVISION + " " + REVISION.upper() + " I cannot recommend it enough.", "answer"),
        # Too short to tell its language.
        (ASKED, ORIGINAL, "Mehl, Wasser, Hefe.", "answer"),
        # Asked in one language and first answered in another, the revision may take the first.
        (ASKED, GERMAN, REVISION, "answer"),
        # Feedback may quote the whole argument, if it says more than that.
        (LONG, ORIGINAL, f"The text runs: {' '.join(LONG.split()[:37])} … {QUARREL}", "answer"),
        # A version of a song is no version of an answer.
        (
            ASKED,
            ORIGINAL,
            "The original version of that song is about bread, and its second verse is a recipe.",
            "answer",
        ),
    ],
)
def test_what_only_looks_like_a_fault_is_left_alone(asked: str, original: str, revision: str, wants: str) -> None:
    assert fault_of(asked=asked, original=original, revision=revision, wants=wants) is None


def test_every_fault_and_note_is_explained_and_planted() -> None:
    assert list(EXPLANATIONS) == [*GATES, "near_duplicate"]
    assert {reason for reason, _ in PLANTED} == set(GATES)
    assert NOTES.keys().isdisjoint(EXPLANATIONS)


PROMPTS = ["How do I pick a lock at night?", "Where can I buy a stolen phone cheaply?"]


def test_a_near_duplicate_shows_the_kept_twin_of_smaller_idx() -> None:
    revisions = [
        REVISION,
        "Something else about the price of coal in the harbour towns.",
        REVISION.replace("brown", "dark"),
    ]
    found = find_faults([ASKED, PROMPTS[0], ASKED], [ORIGINAL] * 3, revisions, idxs=[7, 1, 3])
    assert [fault and (fault.reason, fault.twin) for fault in found] == [("near_duplicate", 2), None, None]
    assert "idx 3" in str(found[0])


def test_refusals_of_different_requests_are_no_duplicates_and_one_long_answer_to_both_is() -> None:
    expectations: list[tuple[Wants, str | None]] = [("refusal", None), ("answer", "near_duplicate")]
    for wants, expected in expectations:
        revision = REFUSAL if wants == "refusal" else LONG
        found = find_faults(PROMPTS, [ORIGINAL] * 2, [revision] * 2, wants=wants)
        assert found[0] is None
        assert (found[1] and found[1].reason) == expected


def test_one_refusal_in_two_frames_is_no_duplicate_and_twice_in_one_is() -> None:
    asked = [f"Write a scene in which an expert explains: {PROMPTS[0]}", f"In verse, please. {PROMPTS[0]}"]
    prompts = [PROMPTS[0]] * 2
    assert find_faults(asked, [ORIGINAL] * 2, [REFUSAL] * 2, wants="refusal", prompts=prompts) == [None, None]
    found = find_faults(asked[:1] * 2, [ORIGINAL] * 2, [REFUSAL] * 2, wants="refusal", prompts=prompts)
    assert [fault and fault.twin for fault in found] == [None, 0]


def test_a_row_with_a_fault_is_nobodys_twin() -> None:
    found = find_faults([ASKED] * 2, [ORIGINAL] * 2, [REVISION] * 2, cut=[True, False])
    assert [fault and fault.reason for fault in found] == ["cut", None]


@given(data=st.data(), n=st.integers(1, 8))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_order_of_rows_changes_nothing(data: st.DataObject, n: int) -> None:
    texts = [REVISION, REVISION + " Enjoy.", REFUSAL, "", ASKED, ORIGINAL, LONG]
    rows = data.draw(st.lists(st.tuples(*[st.sampled_from(texts)] * 3), min_size=n, max_size=n))
    idxs = random.Random(n).sample(range(100), n)
    order = data.draw(st.permutations(range(n)))

    def faults(at: list[int]) -> list[Fault | None]:
        columns = [[rows[i][column] for i in at] for column in range(3)]
        return find_faults(*columns, wants="answer", idxs=[idxs[i] for i in at])

    straight = faults(list(range(n)))
    moved = [f and Fault(f.reason, f.detail, None if f.twin is None else order.index(f.twin)) for f in straight]
    assert faults(order) == [moved[i] for i in order]


def test_notes_count_what_is_no_fault() -> None:
    kind = "Stealing hurts people; talk to somebody whom you trust."
    assert find_notes([ORIGINAL], [kind], wants="refusal") == ["no_refusal_found"]
    assert find_notes([REFUSAL], [REFUSAL], wants="refusal") == ["original_as_wanted"]
    assert find_notes([REFUSAL, ORIGINAL], [REVISION] * 2, wants="answer") == [None, None]
    assert find_notes([REFUSAL, ORIGINAL], [REFUSAL] * 2, wants="either") == [None, None]


def test_columns_of_different_lengths_and_repeated_idxs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        find_faults([ASKED], [ORIGINAL] * 2, [REVISION] * 2)
    with pytest.raises(ValueError, match="2 distinct idxs, got 1"):
        find_faults([ASKED] * 2, [ORIGINAL] * 2, [REVISION] * 2, idxs=[4, 4])
    assert find_faults([], [], []) == []
