import pytest

from frpo_verl.rewards.shaping import soft_overlong


def test_soft_overlong_values():
    # DAPO's figures: 16384 + 4096 tokens
    values = [soft_overlong(length, 20480, 4096) for length in (0, 16384, 17408, 18432, 20480, 30000)]
    assert values == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]


@pytest.mark.parametrize("buffer", [0, -1, 101])
def test_soft_overlong_refuses_a_wrong_buffer(buffer):
    with pytest.raises(ValueError, match="overlong_buffer"):
        soft_overlong(1, 100, buffer)
