"""The picture of a PPO run: written for any number of rollouts, the same bytes each time."""

from pathlib import Path

import pytest

from smidgen.report.ppo_figure import ppo_png


def rows(n: int) -> list[dict[str, float]]:
    return [
        {"step": 4.0 * (i + 1), "reward": 0.1 * i, "reward_standard_error": 0.05, "kl": 0.5 * i, "kl_k3": 0.6 * i}
        | {"kl_coef": 0.05 * 0.98**i}
        for i in range(n)
    ]


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_picture_of_any_run(tmp_path: Path, n: int) -> None:
    one = ppo_png(rows(n), tmp_path / "one.png", kl_target=6.0).read_bytes()
    assert one.startswith(b"\x89PNG")
    assert ppo_png(rows(n), tmp_path / "same.png", kl_target=6.0).read_bytes() == one
    assert ppo_png(rows(n), tmp_path / "free.png").read_bytes() != one
