import pytest

from frpo_verl.core.divergences import DIVERGENCES, Divergence, get_divergence
from frpo_verl.core.proof import check_divergence

ROWS = [(name, None) for name in DIVERGENCES if name != "alpha"] + [("alpha", a) for a in (-2.0, -0.5, 0.5, 1.5, 4.0)]
IDS = [name if order is None else f"{name}{order:g}" for name, order in ROWS]


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_every_row_passes_the_proof(name, order):
    findings = check_divergence(get_divergence(name, order))
    assert [f for f in findings if not f.ok] == [] and len(findings) == 9
    assert all(f.name and f.text and "\n" not in f.text for f in findings)


def failing(divergence):
    return {f.name for f in check_divergence(divergence) if not f.ok}


def test_the_proof_finds_what_is_wrong():
    kl = DIVERGENCES["reverse_kl"]
    k3 = DIVERGENCES["reverse_kl_k3"]
    assert failing(Divergence("f alone", "w log w", kl.value)) == set()
    # two rows of reverse KL mixed: the expected gradient is right, the cost is that of another f
    assert failing(Divergence("mixed", "", k3.value, cost=kl.cost, slope=kl.slope)) == {"cost = f(w)/w"}
    assert failing(Divergence("own slope", "", kl.value, slope=lambda x: x.exp() - 1)) == {
        "slope = f'(w) - f'(1)",
        "expected gradient, enumerated",
    }
    assert failing(Divergence("shifted", "w log w + 1", lambda x: x * x.exp() + 1)) == {
        "f(1) = 0", "exactly 0 where the policies agree", "expected gradient, enumerated",
    }  # fmt: skip
    assert failing(Divergence("concave", "log w", lambda x: x)) == {"f is convex"}
    assert failing(Divergence("signed", "w log w", kl.value, nonnegative_cost=True)) == {"sign of the cost"}
    assert "dtype and shape are kept" in failing(Divergence("single", "", kl.value, cost=lambda x: x.float()))
    assert failing(Divergence("broken", "", kl.value, cost=lambda x: x.nonsense)) == {
        "cost = f(w)/w", "exactly 0 where the policies agree", "sign of the cost", "dtype and shape are kept",
        "expected gradient, enumerated", "finite range",
    }  # fmt: skip
