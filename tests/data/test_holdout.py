"""Held-out pairs share no prompt with those that are kept, and the split does not depend on the rows' order."""

from smidgen.data.holdout import hold_out, unseen
from smidgen.pairs import plain_pair

PAIRS = [plain_pair(i, f"Word{i // 2} thing{i // 2}?", f"Yes {i}.", f"No {i}.") for i in range(400)]


def test_pairs_on_one_prompt_stay_together_and_rows_may_come_in_any_order() -> None:
    kept, held = hold_out(PAIRS, 0.3, at_most=1000)
    assert len(kept) + len(held) == 400
    assert 80 < len(held) < 160
    assert not {pair.prompt for pair in kept} & {pair.prompt for pair in held}
    assert {p.idx for p in hold_out(PAIRS[::-1], 0.3, at_most=1000)[1]} == {p.idx for p in held}
    assert len(hold_out(PAIRS, 0.3, at_most=7)[1]) == 7
    assert hold_out(PAIRS, 0.0, at_most=7)[1] == []


def test_near_copies_of_training_prompts_are_no_held_out_pairs() -> None:
    kept, held = hold_out(PAIRS, 0.3, at_most=1000)
    copy = plain_pair(999, f"{kept[0].prompt_text.upper()}!", "Yes.", "No.")
    assert unseen([*held, copy], kept) == held
