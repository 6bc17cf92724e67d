"""Reward, DPO, β and objectives on one pair equal hand-worked values, and their sentences follow the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from smidgen.errors import UsageError
from smidgen.explain.beta import beta
from smidgen.explain.dpo import dpo
from smidgen.explain.objectives import objectives
from smidgen.explain.point import point, pull
from smidgen.explain.reward import reward
from smidgen.settings import settings_model
from smidgen.training.losses import loss

POLICY, RAISED, LOWERED = (0.2, 0.3), (0.2, 0.4), (0.2, 0.2)
BETAS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)


def test_a_reward_model_on_one_pair() -> None:
    found = reward(chosen=0.5, rejected=0.8).data
    assert found["loss"] == pytest.approx(0.854355, abs=5e-7)
    assert found["probability"] == pytest.approx(0.425557, abs=5e-7)
    assert found["gradient"]["chosen"] == pytest.approx(-(1 - 0.425557), abs=5e-7)
    assert found["gradient"]["rejected"] == -found["gradient"]["chosen"]


def test_the_reward_conclusion_turns_with_the_order() -> None:
    wrong, right, even, sure = (
        " ".join(reward(chosen=chosen, rejected=0.8).conclusion) for chosen in (0.5, 1.1, 0.8, 9.0)
    )
    assert "rejected answer 0.3 above the other, against what people chose" in wrong
    assert "0.8544, above the 0.6931" in wrong
    assert "chosen answer 0.3 above the other, as people did" in right
    assert "below the 0.6931" in right
    assert "cannot tell, and its loss is ln 2" in even
    assert "already more than 90 % sure" in sure


@pytest.mark.parametrize(
    ("reference", "margin", "value"), [(RAISED, 0.287682, 0.446287), (LOWERED, -0.405465, 1.178655)]
)
def test_dpo_on_one_pair(reference: tuple[float, float], margin: float, value: float) -> None:
    found = dpo(policy=POLICY, reference=reference, beta=2).data
    assert found["margin"] == pytest.approx(margin, abs=5e-7)
    assert found["loss"] == pytest.approx(value, abs=5e-7)
    assert found["gradient_weight"] == pytest.approx(2 / (1 + math.exp(2 * found["margin"])))
    assert found["gradient"] == {"chosen": -found["gradient_weight"], "rejected": found["gradient_weight"]}
    assert found["implicit_reward_margin"] == pytest.approx(2 * found["margin"])


def test_the_label_of_the_worked_pair_has_probability_64_percent() -> None:
    assert dpo(policy=POLICY, reference=RAISED, beta=2).data["probability"] == pytest.approx(0.64)


def test_published_log_probabilities() -> None:
    pairs = [((-0.5, -0.1), (-0.5, -0.1)), ((-10.0, -30.0), (-10.1, -20.1)), ((-1.0, -21.0), (-0.1, -0.1))]
    found = [dpo(policy=policy, reference=ref, beta=0.1, logs=True).data["loss"] for policy, ref in pairs]
    assert found == pytest.approx([0.693147, 0.313262, 0.126928], abs=5e-7)
    hinges = [
        objectives(policy=policy, reference=ref, beta=0.1, losses=("hinge",), logs=True).data["objectives"]["hinge"]
        for policy, ref in pairs
    ]
    assert [found["loss"] for found in hinges] == pytest.approx([1, 0, 0], abs=1e-9)


def test_the_dpo_conclusion_turns_with_the_margin() -> None:
    right = " ".join(dpo(policy=POLICY, reference=RAISED, beta=2).conclusion)
    assert "puts the chosen answer 0.5754 above" in right
    assert "below the 0.6931 of an untrained policy" in right
    assert "the chosen answer kept its probability and the rejected answer fell by a factor of 1.33" in right
    assert "still writes the rejected answer 1.5 times as often" in right
    assert "36 % of the most it can be" in right
    wrong = " ".join(dpo(policy=POLICY, reference=LOWERED, beta=2).conclusion)
    assert "puts the rejected answer 0.8109 above the other, against the label" in wrong
    assert "the rejected answer rose by a factor of 1.5" in wrong
    assert "still writes" not in wrong
    assert "the margin is 0, the loss ln 2" in dpo(policy=POLICY, reference=POLICY).conclusion[0]
    turned = " ".join(dpo(policy=(0.3, 0.2), reference=(0.4, 0.2)).conclusion)
    assert "only that the reference did so even more" in turned


def test_dpo_over_beta() -> None:
    raised, lowered = beta(policy=POLICY, references=(RAISED, LOWERED)).data["cases"]
    assert raised["loss"] == pytest.approx([0.678867, 0.623811, 0.559616, 0.446287, 0.212935, 0.054785], abs=5e-7)
    assert lowered["loss"] == pytest.approx([0.713626, 0.799642, 0.916291, 1.178655, 2.151035, 4.071844], abs=5e-7)
    for case, base in ((raised, 0.75), (lowered, 1.5)):
        assert case["loss"] == pytest.approx([math.log(1 + base**b) for b in BETAS])
        weights = [b / (1 + math.exp(b * case["margin"])) for b in BETAS]
        assert case["gradient_weight"] == pytest.approx(weights)


def test_the_gradient_weight_is_greatest_where_it_says() -> None:
    (case, *_) = beta(policy=POLICY, references=(RAISED,)).data["cases"]
    peak = case["beta_of_greatest_weight"]

    def weight(value: float) -> float:
        return beta(policy=POLICY, references=(RAISED,), betas=(value,)).data["cases"][0]["gradient_weight"][0]

    assert weight(peak) > max(weight(0.99 * peak), weight(1.01 * peak))


def test_one_reference_is_shown_with_its_label_turned_round() -> None:
    right, wrong = beta(policy=POLICY, references=(RAISED,)).data["cases"]
    assert wrong["margin"] == -right["margin"]
    assert len(beta(policy=POLICY, references=(POLICY,)).data["cases"]) == 1


def test_the_beta_conclusion_follows_the_numbers() -> None:
    text = " ".join(beta(policy=POLICY, references=(RAISED, LOWERED)).conclusion)
    assert "falls from 0.6789 at β = 0.1 to 0.0548 at β = 10" in text
    assert "grows up to β = 4.44" in text
    assert "rises from 0.7136 at β = 0.1 to 4.0718 at β = 10" in text
    assert "21.97 nats" in text
    assert "98.3 % of β" in text
    assert "by a factor of 1.25, against e^22" in text
    short = " ".join(beta(policy=POLICY, references=(RAISED,), betas=(1.0, 2.0)).conclusion)
    assert "beyond this table, and still grows" in short
    small = " ".join(beta(policy=POLICY, references=(RAISED,), betas=(0.1, 0.2)).conclusion)
    assert "near the reference" not in small and "by a factor of e^11, against e^22" in small
    late = " ".join(beta(policy=POLICY, references=(RAISED,), betas=(20.0, 30.0)).conclusion)
    assert "before this table, and falls throughout" in late
    none = " ".join(beta(policy=POLICY, references=(POLICY,), betas=(2.0,)).conclusion)
    assert "ln 2 at every β" in none
    assert "wrong" not in none


# Every objective, by the functions that train.

WORKED = {
    "dpo": 0.446287,
    "dpo:label_smoothing=0.1": 0.503824,
    "robust:label_smoothing=0.1": 0.374367,
    "hinge": 0.4246,
    "ipo": 0.0014,
    "orpo:odds_weight=0.1": 1.709291,
    "simpo:gamma=0.5": 1.549608,
    "apo_zero": 0.86,
    "apo_down": 0.86,
    "nca": 1.262864,
    "exo:label_smoothing=0.1": 0.242943,
    "refined_dpo": 0.601026,
    "refined_dpo:form=distilled": 0.180316,
    "refined_dpo:form=margin": 0.927837,
}


def test_the_worked_objectives() -> None:
    found = objectives(policy=POLICY, reference=RAISED, beta=2, losses=tuple(WORKED)).data["objectives"]
    for name, value in WORKED.items():
        digits = len(str(value).split(".")[1])
        assert round(found[name]["loss"], digits) == value, name


def test_an_offset_of_one() -> None:
    (found,) = objectives(
        policy=POLICY, reference=RAISED, beta=2, losses=("odpo",), scores=(math.e, 0.0)
    ).data["objectives"].values()  # fmt: skip
    assert found["loss"] == pytest.approx(0.927837, abs=5e-7)


def test_the_parts_of_orpo() -> None:
    found = objectives(policy=POLICY, reference=RAISED, beta=2, losses=("orpo:odds_weight=1", "nll")).data
    orpo, nll = (one["loss"] for one in found["objectives"].values())
    assert orpo - nll == pytest.approx(0.998529, abs=5e-7)
    assert found["log_odds_ratio"] == pytest.approx(-0.538997, abs=5e-7)


@pytest.fixture(scope="module")
def data() -> Mapping[str, Any]:
    return objectives(policy=POLICY, reference=RAISED, beta=2).data


@pytest.fixture(scope="module")
def everything(data: Mapping[str, Any]) -> dict[str, Any]:
    return data["objectives"]


def test_single_answers(data: Mapping[str, Any]) -> None:
    kto = data["single_answers"]["kto"]
    assert (kto["chosen"], kto["rejected"]) == pytest.approx((0.50, 0.36))


def test_every_registered_objective_is_there(everything: dict) -> None:
    assert list(everything) == loss.names()


def test_gradients_are_those_of_the_loss(everything: dict) -> None:
    step = 1e-5
    for name, found in everything.items():
        if name in ("kto", "hinge"):
            continue  # KTO's reference point carries no gradient; a hinge has a corner
        for i, side in enumerate(("chosen", "rejected")):
            around = []
            for sign in (1, -1):
                moved = [math.log(p) for p in POLICY]
                moved[i] += sign * step
                logs = (moved[0], moved[1])
                ref = (math.log(RAISED[0]), math.log(RAISED[1]))
                around.append(value_of(name, logs, ref))
            assert found["gradient"][side] == pytest.approx((around[0] - around[1]) / (2 * step), abs=1e-6), name


def value_of(name: str, policy: tuple[float, float], reference: tuple[float, float]) -> float:
    takes_beta = "beta" in settings_model(loss.get(name)).model_fields
    return pull(loss.bind(name, {"beta": 2.0} if takes_beta else {}), point(policy, reference, logs=True)).loss


def test_who_sees_only_the_margin(everything: dict) -> None:
    unseen = {name for name, found in everything.items() if found["both_fall_together"] == "unseen"}
    assert {"dpo", "ipo", "hinge", "robust", "exo", "simpo"} <= unseen
    assert not unseen & {"nll", "orpo", "cpo", "kto", "apo_zero", "apo_down", "nca", "bco", "sppo"}
    assert everything["apo_down"]["both_fall_together"] == "rewarded"
    assert everything["nll"]["both_fall_together"] == "punished"


def test_targets_are_where_the_losses_have_them(everything: dict) -> None:
    targets = {name: found["target_margin"] for name, found in everything.items()}
    assert targets["ipo"] == pytest.approx(1 / (2 * 2))
    assert targets["sppo"] == pytest.approx(1 / 2)
    assert targets["exo"] == pytest.approx(math.log(0.9 / 0.1) / 2)
    assert targets["refined_dpo"] == pytest.approx(1 / 2)
    for name in ("dpo", "hinge", "robust", "simpo", "orpo", "nll", "discopop"):
        assert targets[name] is None, name
    smoothed = objectives(policy=POLICY, reference=RAISED, beta=2, losses=("dpo:label_smoothing=0.1",))
    (found,) = smoothed.data["objectives"].values()
    assert found["target_margin"] == pytest.approx(math.log(0.9 / 0.1) / 2)


def test_who_stops_once_the_rejected_answer_is_gone(everything: dict) -> None:
    stops = {name for name, found in everything.items() if found["once_rejected_is_gone"] == "stops"}
    assert {"dpo", "hinge", "simpo", "exo"} <= stops
    assert everything["ipo"]["once_rejected_is_gone"] == "w↓ l↑"
    assert everything["nll"]["once_rejected_is_gone"] == "w↑"
    assert everything["robust"]["once_rejected_is_gone"] == "w↑ l↓"


def test_the_objectives_conclusion_follows_the_numbers() -> None:
    at_two = " ".join(objectives(policy=POLICY, reference=RAISED, beta=2, losses=("ipo", "dpo", "nll")).conclusion)
    assert "with 1 of the 3 objectives" in at_two
    assert "ipo (chosen down, rejected up)" in at_two
    assert "ipo at h = 0.25" in at_two
    at_one = " ".join(objectives(policy=POLICY, reference=RAISED, beta=1, losses=("ipo", "dpo", "nll")).conclusion)
    assert "with 2 of the 3 objectives" in at_one
    assert "ipo at h = 0.5" in at_one
    alone = " ".join(objectives(policy=POLICY, reference=RAISED, losses=("dpo",)).conclusion)
    assert "on dpo raises the chosen answer and lowers the rejected one" in alone
    assert "dpo does not change its loss" in alone


# What is no pair.


@pytest.mark.parametrize(
    "policy", [(0.0, 0.3), (0.2, 1.2), (-0.1, 0.3), (math.nan, 0.3), (0.7, 0.4), (math.inf, 0.1), (0.2,)]
)
def test_what_are_no_probabilities(policy: tuple[float, float]) -> None:
    for call in (
        lambda: dpo(policy=policy, reference=RAISED),
        lambda: dpo(policy=POLICY, reference=policy),
        lambda: beta(policy=policy, references=(RAISED,)),
        lambda: objectives(policy=policy, reference=RAISED),
    ):
        with pytest.raises(UsageError, match=r"expected .* got .*[;.] "):
            call()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_beta(value: float) -> None:
    for call in (
        lambda: dpo(policy=POLICY, reference=RAISED, beta=value),
        lambda: beta(policy=POLICY, references=(RAISED,), betas=(1.0, value)),
        lambda: objectives(policy=POLICY, reference=RAISED, beta=value),
    ):
        with pytest.raises(UsageError, match=r"expected beta above 0, got .*; give"):
            call()


def test_other_numbers_that_are_none() -> None:
    with pytest.raises(UsageError, match=r"finite reward for rejected, got nan; give"):
        reward(chosen=1.0, rejected=math.nan)
    with pytest.raises(UsageError, match=r"at most 0, finite.* got 0.5, -1"):
        dpo(policy=(0.5, -1.0), reference=(-1.0, -1.0), logs=True)
    with pytest.raises(UsageError, match=r"at least one reference"):
        beta(policy=POLICY, references=())
    with pytest.raises(UsageError, match=r"finite scores, got nan"):
        objectives(policy=POLICY, reference=RAISED, scores=(math.nan, 0.0))
    with pytest.raises(UsageError, match=r"unknown loss 'dop'; expected one of: apo_down"):
        objectives(policy=POLICY, reference=RAISED, losses=("dop",))
