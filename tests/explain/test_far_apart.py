"""However far apart the numbers: whole answers' log-probabilities are sums over hundreds of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smidgen.explain.beta import beta
from smidgen.explain.dpo import dpo
from smidgen.explain.objectives import objectives
from smidgen.explain.policy import policy
from smidgen.explain.reward import reward

POLICY, REFERENCE = (0.2, 0.3), (0.2, 0.4)
NATS = st.floats(-5000, 0)


@settings(max_examples=12, deadline=None)
@example((-1200.0, -100.0), (-1300.0, -100.0), 0.1)
@example((-100.0, -1200.0), (-100.0, -100.0), 0.1)
@example((-1200.0, -100.0), (-100.0, -1200.0), 0.1)
@given(st.tuples(NATS, NATS), st.tuples(NATS, NATS), st.sampled_from([0.01, 0.1, 2.0]))
def test_no_sum_of_log_probabilities_is_too_large(
    trained: tuple[float, float], reference: tuple[float, float], strength: float
) -> None:
    found = dpo(policy=trained, reference=reference, beta=strength, logs=True)
    assert found.data["loss"] == pytest.approx(np.logaddexp(0, -strength * found.data["margin"]))
    assert "inf" not in (text := " ".join(found.conclusion)) and "nan" not in text
    assert beta(policy=trained, references=(reference,), betas=(strength, 1.0), logs=True).conclusion
    assert objectives(policy=trained, reference=reference, losses=("dpo", "ipo", "hinge"), logs=True).conclusion


def test_factors_are_said_by_their_logarithm_where_they_are_too_large() -> None:
    far = dpo(policy=(-1200.0, -100.0), reference=(-1300.0, -100.0), beta=2, logs=True)
    text = " ".join(far.conclusion)
    assert "the chosen answer rose by a factor of e^100 and the rejected answer kept its probability" in text
    assert "still writes the rejected answer e^1100 times as often" in text
    assert "e^−200 of the most it can be" in text
    assert "ln(1 + (e^−100)^2)" in repr(far.tables)
    wrong = " ".join(dpo(policy=(-1200.0, -100.0), reference=(-100.0, -100.0), beta=2, logs=True).conclusion)
    assert "the label has a probability of e^−2200 and the loss is 2200" in wrong


def test_what_double_precision_rounds_is_not_shown_as_exact() -> None:
    far = reward(chosen=-2000.0, rejected=0.0)
    assert "a probability of e^−2000, so the loss is 2000" in far.conclusion[0]
    assert "at e^−2000 of the step size" in reward(chosen=2000.0, rejected=0.0).conclusion[1]
    assert "double precision" in far.tables[0].note
    assert "double precision" in dpo(policy=(-900.0, -1.0), reference=(-1.0, -1.0), logs=True).tables[0].note
    assert "double precision" not in reward(chosen=0.5, rejected=0.8).tables[0].note
    assert "double precision" not in dpo(policy=POLICY, reference=REFERENCE).tables[0].note


def test_rewards_far_apart_are_said_by_logarithms() -> None:
    found = policy(policy=POLICY, reference=REFERENCE, rewards=(5.0, -3.0), beta=0.01)
    text = " ".join(found.conclusion)
    assert "the rejected one e^800 times what they are" in text
    assert "the rejected one e^−799.3 (0.3 now)" in text
    assert "e^799.3 to 1 at RLHF" in text
    assert "0 and 1 are what double precision rounds to" in found.tables[0].note
    other = " ".join(policy(policy=POLICY, reference=REFERENCE, rewards=(-3.0, 5.0), beta=0.01).conclusion)
    assert "1 to e^800.7 at RLHF" in other
