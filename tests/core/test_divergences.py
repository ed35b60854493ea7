import mpmath
import pytest
import torch
from mpmath import mpf

from frpo_verl.core.divergences import DIVERGENCES, Divergence, finite_up_to, get_divergence
from frpo_verl.methods import ranges

PLAIN = [name for name in DIVERGENCES if name != "alpha"]
ORDERS = [ranges.ALPHA.low, -0.5, 0.5, 0.91, 1.00001, 1.5, 2.0, ranges.ALPHA.high]
ROWS = [(name, None) for name in PLAIN] + [("alpha", order) for order in ORDERS]
IDS = [name if order is None else f"{name}{order:g}" for name, order in ROWS]


def by_definition(name, order, w):
    """f(w) and f'(w) as they stand in a textbook, in whatever numbers w is made of."""
    log, sqrt = mpmath.log, mpmath.sqrt
    a = None if order is None else mpf(order)
    return {
        "reverse_kl": lambda: (w * log(w), log(w) + 1), "reverse_kl_k3": lambda: (w * log(w) - w + 1, log(w)),
        "forward_kl": lambda: (-log(w), -1 / w), "forward_kl_k3": lambda: (w - 1 - log(w), 1 - 1 / w),
        "js": lambda: (w * log(w) - (w + 1) * log((w + 1) / 2), log(2 * w / (1 + w))),
        "jeffreys": lambda: ((w - 1) * log(w), log(w) + 1 - 1 / w),
        "pearson_chi2": lambda: ((w - 1) ** 2, 2 * (w - 1)), "neyman_chi2": lambda: ((w - 1) ** 2 / w, 1 - 1 / w**2),
        "squared_hellinger": lambda: ((sqrt(w) - 1) ** 2, 1 - 1 / sqrt(w)),
        "total_variation": lambda: (abs(w - 1) / 2, mpmath.sign(w - 1) / 2),
        "alpha": lambda: ((w**a - a * w - 1 + a) / (a * (a - 1)), (w ** (a - 1) - 1) / (a - 1)),
    }[name]()  # fmt: skip


def exact(name, order, log_w):
    with mpmath.workdps(60):
        w = mpmath.exp(mpf(log_w))
        f, slope = by_definition(name, order, w)
        slope_at_one = by_definition(name, order, mpf(1))[1]
        return float(f), float(f / w), float(slope), float(slope - slope_at_one)


def grid(dtype):
    wide = torch.linspace(-20, 20, 81, dtype=torch.float64)
    near = torch.tensor([1e-7, 1e-5, 1e-3, 0.03, 0.2499, 0.2501, 0.7, 1.0, 2.3], dtype=torch.float64)
    return torch.cat([wide, near, -near]).to(dtype)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 4e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_table_against_sixty_digits(name, order, dtype, tolerance):
    row, x = get_divergence(name, order), grid(dtype)
    truth = torch.tensor([exact(name, order, v) for v in x.tolist()], dtype=torch.float64).T
    atol_of_whole = 2 * torch.finfo(dtype).eps * abs(row.slope_at_one)  # -1/w is stored as (1 - 1/w) - 1
    found = (row.value(x), row.cost(x), row.slope(x) + row.slope_at_one, row.slope(x))
    for got, want, atol in zip(found, truth, (0, 0, atol_of_whole, 0), strict=True):
        assert got.dtype == dtype and torch.isfinite(got).all()
        torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=atol)  # at 0 too: exactly 0
    assert dtype == torch.float32 or (row.slope(x.sort().values).diff() >= 0).all()  # f is convex


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_flags_say_what_the_functions_do(name, order):
    row, x = get_divergence(name, order), grid(torch.float64)
    assert row.nonnegative_cost == bool((row.cost(x) >= 0).all())
    assert row.cost_is_slope == torch.equal(row.cost(x), row.slope(x))
    assert row.name == name


def test_the_table_holds_the_eleven_rows():
    assert sorted(DIVERGENCES) == sorted(
        "reverse_kl reverse_kl_k3 forward_kl forward_kl_k3 js jeffreys pearson_chi2 neyman_chi2 "
        "squared_hellinger total_variation alpha".split()
    )
    assert all(get_divergence(name) is DIVERGENCES[name] for name in PLAIN)


@pytest.mark.parametrize(
    "name, alpha, says",
    [
        ("jefreys", None, "did you mean 'jeffreys'"),
        ("foo", None, "known: reverse_kl"),
        ("js", 0.5, "only read by divergence 'alpha'"),
        ("alpha", None, "alpha=None"),
        ("alpha", 0, "other than 0 and 1"),
        ("alpha", 1.0, "other than 0 and 1"),
        ("alpha", 9.0, "[-2, 4]"),
        ("alpha", float("nan"), "alpha=nan"),
        ("alpha", "0.5", "alpha='0.5'"),
        ("alpha", True, "alpha=True"),
    ],
)
def test_errors_name_the_key_and_the_cure(name, alpha, says):
    with pytest.raises(ValueError) as error:
        get_divergence(name, alpha)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_an_alpha_row_without_order_refuses_to_compute():
    with pytest.raises(ValueError, match="get_divergence"):
        DIVERGENCES["alpha"].cost(torch.zeros(2))


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_f_alone_gives_cost_slope_and_the_constant(name, order):
    row = get_divergence(name, order)
    own = Divergence("own", row.formula, row.value)
    x = torch.cat([torch.linspace(-6, 6, 121, dtype=torch.float64), torch.zeros(1037, dtype=torch.float64)])
    torch.testing.assert_close(own.cost(x), row.cost(x), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(own.slope(x), row.slope(x), rtol=1e-9, atol=1e-12)
    assert own.slope_at_one == pytest.approx(row.slope_at_one, abs=1e-12)
    for dtype in (torch.float32, torch.float64):
        zero = torch.zeros(1037, dtype=dtype)
        assert not own.cost(zero).any() and not own.slope(zero).any() and own.slope(zero).dtype == dtype
    with torch.no_grad():
        assert not own.slope(x.requires_grad_()).requires_grad


@pytest.mark.parametrize("name, order", ROWS, ids=IDS)
def test_finite_up_to_is_where_float32_runs_out_of_room(name, order):
    row = get_divergence(name, order)
    bound = finite_up_to(row)
    assert 20 < bound <= 80
    inside = torch.tensor([bound, -bound])
    assert torch.maximum(row.cost(inside).abs(), row.slope(inside).abs()).max() < 1e30
    if bound < 80:
        outside = torch.tensor([1.001 * bound, -1.001 * bound])
        assert not torch.maximum(row.cost(outside).abs(), row.slope(outside).abs()).max() < 1e30
    assert finite_up_to(row, bound=10.0) == 10.0
