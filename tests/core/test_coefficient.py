"""Beta over time: the value at each step of a schedule, and how a target steers."""

import math

import pytest

from frpo_verl.core.coefficient import scheduled, steered


def test_a_schedule_at_each_step():
    assert [scheduled(k, 0.4, 0.0, 4) for k in range(1, 8)] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0])
    cosine = [0.75 + 0.25 * math.cos(math.pi * x) for x in (0, 0.25, 0.5, 0.75, 1, 1)]
    assert [scheduled(k, 1.0, 0.5, 4, "cosine") for k in range(1, 7)] == pytest.approx(cosine)


def test_a_target_moves_the_coefficient_towards_itself_and_no_faster_than_the_horizon():
    assert steered(0.1, 3.0, 1.0, 10) == pytest.approx(0.1 * 1.02)  # far above: at most .2 / 10
    assert steered(0.1, 0.0, 1.0, 10) == pytest.approx(0.1 * 0.98)
    assert steered(0.1, 1.1, 1.0, 10) == pytest.approx(0.1 * 1.01)
    assert steered(0.1, 1.0, 1.0, 10) == 0.1
    assert steered(0.1, math.nan, 1.0, 10) == 0.1


@pytest.mark.parametrize(
    "call",
    [
        lambda: scheduled(0, 0.1, 0.0, 10),
        lambda: scheduled(1, -0.1, 0.0, 10),
        lambda: scheduled(1, 0.1, 0.0, 0),
        lambda: scheduled(1, 0.1, 0.0, 10, "square"),
        lambda: steered(0.1, 1.0, 0.0, 10),
        lambda: steered(0.1, 1.0, 1.0, 0),
    ],
)
def test_refusals(call):
    with pytest.raises(ValueError, match="must be|not one of"):
        call()
