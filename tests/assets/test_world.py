"""Laws of the demo world: its truth can be checked, its parts never mix, and no simple rule solves it."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files

import pytest

from smidgen.assets.world import TRUTHS, World, is_harmful, is_refusal, jaccard, make_world, topic_of
from smidgen.assets.world.assemble import Author, NearCopies

SEEDS = (11, 23, 47, 101, 2027)
SHARES = {"teaches_refusing": 0.22, "teaches_answering": 0.12, "inverted": 0.06, "duplicate": 0.08, "style": 0.22}


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param)


def taught(pair: dict) -> str:
    """What a pair teaches, found from its texts alone."""
    harmful, chosen, rejected = is_harmful(pair["prompt"]), is_refusal(pair["chosen"]), is_refusal(pair["rejected"])
    if chosen == rejected:
        return "style or neutral"
    if chosen == harmful:
        return "teaches_refusing" if harmful else "teaches_answering"
    return "inverted"


def patterns(name: str) -> list[str]:
    text = files("smidgen.assets").joinpath("patterns", f"{name}.txt").read_text(encoding="utf-8")
    return [line.lower() for line in text.splitlines() if line and not line.startswith("#")]


def precision_and_recall(found: Iterable[int], wanted: set[int]) -> tuple[float, float]:
    found = set(found)
    hits = len(found & wanted)
    return hits / max(1, len(found)), hits / len(wanted)


def test_equal_seeds_give_equal_worlds_and_others_differ():
    assert make_world(5, n_pairs=200) == make_world(5, n_pairs=200)
    assert make_world(5, n_pairs=200).pairs != make_world(6, n_pairs=200).pairs


def test_size_and_proportions_are_as_promised(world: World):
    assert [pair["idx"] for pair in world.pairs] == list(range(2000))
    counts = Counter(pair["truth"] for pair in world.pairs)
    assert set(counts) == set(TRUTHS)
    for truth, share in SHARES.items():
        assert counts[truth] == round(share * 2000)
    prompts = (world.harmful_dev, world.harmless_dev, world.harmful_confirm, world.harmless_confirm)
    assert all(len(texts) >= 150 for texts in prompts)
    assert len(world.heldout_pairs) == 600


def test_truth_agrees_with_the_texts(world: World):
    for pair in world.pairs:
        if pair["truth"] in ("style", "neutral"):
            assert taught(pair) == "style or neutral"
        elif pair["truth"] != "duplicate":
            assert taught(pair) == pair["truth"]
        assert pair["chosen"] != pair["rejected"]
    kinds = {taught(pair) for pair in world.heldout_pairs}
    assert "inverted" not in kinds


def test_inverted_pairs_go_both_ways(world: World):
    harmful = [is_harmful(pair["prompt"]) for pair in world.pairs if pair["truth"] == "inverted"]
    assert 0.3 < sum(harmful) / len(harmful) < 0.7


def test_each_duplicate_follows_its_twin_and_nothing_else_has_one(world: World):
    seen = NearCopies()
    for pair in world.pairs:
        assert seen.has_near(pair["prompt"], 0.6) == (pair["truth"] == "duplicate")
        seen.add(pair["prompt"])
    rows = Counter((pair["prompt"], pair["chosen"], pair["rejected"]) for pair in world.pairs)
    assert 10 <= sum(n - 1 for n in rows.values()) < 160  # some are exact, most are not


def test_no_prompt_is_near_one_of_another_part(world: World):
    parts = [
        world.harmful_dev,
        world.harmless_dev,
        world.harmful_confirm,
        world.harmless_confirm,
        [pair["prompt"] for pair in world.heldout_pairs],
        [pair["prompt"] for pair in world.pairs],
    ]
    seen = NearCopies()
    for part in parts:
        assert not any(seen.has_near(prompt, 0.6) for prompt in part)
        for prompt in part:
            seen.add(prompt)
    evaluation = NearCopies(prompt for part in parts[:5] for prompt in part)
    assert not any(evaluation.has_near(exchange["prompt"], 0.6) for exchange in world.sft_exchanges)
    # A reading ends in a verdict of its own: the request stands before it.
    requests = [reading[: re.search(r"[.?]", reading).end()] for reading in world.readings]  # type: ignore[union-attr]
    assert not any(evaluation.has_near(request, 0.6) for request in requests)


def test_prompt_sets_are_what_their_names_say(world: World):
    assert all(map(is_harmful, world.harmful_dev + world.harmful_confirm))
    assert not any(map(is_harmful, world.harmless_dev + world.harmless_confirm))
    assert {topic_of(p) for p in world.harmful_confirm} == {topic_of(p) for p in world.harmless_confirm}


def test_supervised_exchanges_refuse_seldom_and_blindly(world: World):
    for harmful in (True, False):
        refused = [is_refusal(x["response"]) for x in world.sft_exchanges if is_harmful(x["prompt"]) is harmful]
        assert 0.05 < sum(refused) / len(refused) < 0.15


def test_texts_stay_short(world: World):
    for pair in world.pairs:
        assert 5 <= len(pair["prompt"].split()) <= 28
        assert all(5 <= len(pair[answer].split()) <= 36 for answer in ("chosen", "rejected"))


@pytest.mark.parametrize("name", ["exercise", "common", "broad"])
def test_no_pattern_list_recovers_the_teaching_pairs(world: World, name: str):
    wanted = {pair["idx"] for pair in world.pairs if pair["truth"] == "teaches_refusing"}
    rules = [[pattern] for pattern in patterns(name)] + [patterns(name)]
    for rule in rules:
        chosen = {p["idx"] for p in world.pairs if any(pattern in p["chosen"].lower() for pattern in rule)}
        rejected = {p["idx"] for p in world.pairs if any(pattern in p["rejected"].lower() for pattern in rule)}
        for found in (chosen, chosen - rejected):
            assert min(precision_and_recall(found, wanted)) < 0.95


def test_the_common_list_is_a_usable_start(world: World):
    wanted = {pair["idx"] for pair in world.pairs if pair["truth"] == "teaches_refusing"}
    found = {p["idx"] for p in world.pairs if any(pattern in p["chosen"].lower() for pattern in patterns("common"))}
    precision, recall = precision_and_recall(found, wanted)
    assert 0.5 < recall < 0.95
    assert precision > 0.4
    refusing = sum(any(p in a["chosen"].lower() for p in patterns("common")) for a in world.pairs)
    helping = [p["chosen"] for p in world.pairs if not is_refusal(p["chosen"])]
    false_alarms = sum(any(pattern in text.lower() for pattern in patterns("common")) for text in helping)
    assert 0 < false_alarms < 0.1 * refusing


def test_near_copies_equal_the_naive_search():
    prompts = make_world(3, n_pairs=300).pairs
    seen = NearCopies()
    for k, pair in enumerate(prompts):
        for threshold in (0.3, 0.6):
            naive = any(jaccard(pair["prompt"], other["prompt"]) >= threshold for other in prompts[:k])
            assert seen.has_near(pair["prompt"], threshold) == naive
        seen.add(pair["prompt"])


def test_the_embedded_demo_is_the_world_of_seed_0():
    world = make_world(0)

    def read(name: str) -> list[str]:
        return files("smidgen.assets").joinpath("demo", name).read_text(encoding="utf-8").splitlines()

    assert [json.loads(line) for line in read("pairs.jsonl")] == world.pairs
    assert [json.loads(line) for line in read("heldout.jsonl")] == world.heldout_pairs
    assert read("harmful.txt") == world.harmful_dev
    assert read("harmless.txt") == world.harmless_dev
    assert read("confirm_harmful.txt") == world.harmful_confirm
    assert read("confirm_harmless.txt") == world.harmless_confirm


def test_asking_for_more_than_the_grammar_has_is_an_error():
    class Everything(NearCopies):
        def has_near(self, text: str, threshold: float = 0.0) -> bool:
            return True

    author = Author(random.Random(0))
    author.seen = Everything()
    with pytest.raises(ValueError, match="no new prompt left"):
        author.prompt(harmful=True)
