"""A session of several rows is one answer: enumerated as one trajectory, and compared with the same tokens in one row."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import frpo, local_objective, regularize

from frpo_verl.core import enumeration as exact
from frpo_verl.core.advantages import Columns, sequence_divergence
from frpo_verl.core.divergences import DIVERGENCES, get_divergence
from frpo_verl.core.steps import steps_by_length

ROWS = [(name, None) for name in DIVERGENCES if name != "alpha"] + [("alpha", 0.5)]
CUT = 2  # columns of a row: a trajectory of up to four tokens is a session of two rows


class Sessions:
    """Every trajectory of a toy, cut in two rows; rows of all sessions in one shuffled batch."""

    def __init__(self, seed=0):
        self.toy = exact.enumerate_trajectories(3, 4)
        self.ref = exact.random_logits(self.toy, seed)
        self.logits = (self.ref + exact.random_logits(self.toy, seed + 1)).requires_grad_()
        delta = exact.log_prob(self.toy, self.logits).detach() - exact.log_prob(self.toy, self.ref)
        rows = 2 * self.toy.count
        self.order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
        self.delta = torch.where(self.toy.mask, delta, torch.nan).reshape(rows, CUT)[self.order]
        self.mask = self.toy.mask.reshape(rows, CUT)[self.order]
        self.ids, self.index = self.order // 2, self.order % 2
        self.keys = {"session_ids": self.ids, "session_index": self.index}

    def whole(self, x):
        """(rows, CUT) in the batch's order -> (trajectories, 4)."""
        back = torch.empty_like(x)
        back[self.order] = x
        return back.reshape(self.toy.count, -1)

    def error(self, reg, f, which=exact.objective):
        truth = exact.gradient(which(self.toy, self.logits, self.ref, f.value), self.logits)
        return exact.relative_error(exact.policy_gradient(self.toy, self.logits, self.whole(reg)), truth)


@pytest.mark.parametrize("placement", ["future", "sequence", "local"])
@pytest.mark.parametrize("name, order", ROWS)
def test_expected_gradient_of_a_session_of_two_rows(name, order, placement):
    session, f = Sessions(), get_divergence(name, order)
    reg = regularize(session.delta, session.mask, divergence=name, alpha=order, placement=placement, **session.keys)
    assert session.error(reg, f, local_objective if placement == "local" else exact.objective) < 1e-10


def test_rows_as_answers_of_their_own_are_a_quarter_off():
    f, errors = get_divergence("reverse_kl"), []
    for seed in range(16):
        session = Sessions(10 * seed)
        assert session.error(regularize(session.delta, session.mask, **session.keys), f) < 1e-10
        errors.append(session.error(regularize(session.delta, session.mask), f))
    assert sum(errors) / len(errors) == pytest.approx(QUARTER, abs=5e-3)


QUARTER = 0.248


@pytest.mark.parametrize("length", [1, 2])
def test_steps_do_not_cross_rows_and_stay_exact(length):
    session = Sessions()
    begins = steps_by_length(session.mask, length)
    reg = regularize(session.delta, session.mask, step_begins=begins, **session.keys)
    assert session.error(reg, get_divergence("reverse_kl")) < 1e-10
    if length == 2:  # one step a row: all its tokens hold the sum from the row's first token on
        whole = session.whole(torch.where(session.mask, session.delta, 0.0))
        expected = torch.stack([whole.sum(-1), whole[:, 2:].sum(-1)], 1).repeat_interleave(2, 1) * session.toy.mask
        torch.testing.assert_close(session.whole(reg), expected)


@pytest.mark.parametrize("placement", ["future", "sequence"])
def test_position_baseline_counts_through_the_session_and_leaves_its_rows_out(placement):
    session, size = Sessions(), 2
    toy, f = session.toy, get_divergence("js")
    p = exact.probability(toy, session.logits).detach()
    pairs = torch.cartesian_prod(*[torch.arange(toy.count)] * size)
    delta, mask = session.whole(session.delta), session.whole(session.mask)
    rows = pairs.flatten()
    ids = torch.arange(len(rows))
    reg = regularize(
        delta[rows].reshape(-1, CUT), mask[rows].reshape(-1, CUT), divergence="js", placement=placement,
        baseline="position", group_ids=torch.arange(len(pairs)).repeat_interleave(2 * size),
        session_ids=ids.repeat_interleave(2), session_index=torch.tensor([0, 1]).repeat(len(rows)),
    ).reshape(-1, 4)  # fmt: skip
    weight = p[pairs].prod(-1).repeat_interleave(size)[:, None] * reg / size
    got = exact.gradient((weight * exact.log_prob(toy, session.logits)[rows]).sum(), session.logits)
    truth = exact.gradient(exact.objective(toy, session.logits, session.ref, f.value), session.logits)
    assert exact.relative_error(got, truth) < 1e-10
    assert not torch.allclose(reg, regularize(delta[rows], mask[rows], divergence="js", placement=placement))


@st.composite
def cuts(draw):
    """Answers of one row each, and the same answers cut into rows: shuffled, with masked tokens and pad rows."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    answers, width, most = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    columns = width * most
    mask = torch.rand(answers, columns, generator=g) < draw(st.sampled_from([0.4, 0.9]))
    number = torch.randint(1, most + 1, (answers,), generator=g)  # rows of each answer
    mask &= torch.arange(columns) < (number * width)[:, None]
    one = {name: -3 * torch.rand(answers, columns, generator=g, dtype=torch.float64) for name in ("lp", "lr")}
    one |= {"mask": mask, "scores": torch.rand(answers, generator=g, dtype=torch.float64).round() - 0.3}
    one |= {"group": torch.randint(0, 2, (answers,), generator=g)}
    place = [(i, k) for i in range(answers) for k in range(int(number[i]))]
    place = [place[j] for j in torch.randperm(len(place), generator=g)]
    many = {name: torch.stack([one[name][i, k * width : (k + 1) * width] for i, k in place]) for name in ("lp", "lr")}
    many["mask"] = torch.stack([mask[i, k * width : (k + 1) * width] for i, k in place])
    for batch in (one, many):
        for name in ("lp", "lr"):
            batch[name] = torch.where(batch["mask"], batch[name], torch.nan)
    many |= {name: torch.stack([one[name][i] for i, _ in place]) for name in ("scores", "group")}
    kind = {
        "divergence": get_divergence(draw(st.sampled_from(["reverse_kl", "js", "pearson_chi2"]))),
        "placement": draw(st.sampled_from(["future", "local", "sequence", "reward_to_go"])),
        "baseline": draw(st.sampled_from(["none", "position"])),
    }
    if kind["placement"] == "reward_to_go":
        kind |= {"baseline": "none", "norm_by_std": draw(st.booleans())}
    elif kind["placement"] == "future" and draw(st.booleans()):
        kind["baseline"] = "remaining"
    elif kind["placement"] == "future":
        kind["discount"] = draw(st.sampled_from([1.0, 0.7, 0.0]))
    gap = draw(st.sampled_from([1, 3]))  # an index that is missing changes no order; 10 comes after 9
    many["keys"] = {"session_ids": [f"s{i}" for i, _ in place], "session_index": torch.tensor([8 + gap * k for _, k in place])}  # fmt: skip
    return one, many, place, width, kind


def of(batch, kind, **keys):
    columns = (batch[name] for name in ("scores", "lp", "lr", "mask"))
    return frpo(*columns, kl_coef=0.3, group_ids=batch["group"], **kind, **keys)


@settings(deadline=None, max_examples=100)
@given(cuts(), st.integers(0, 2))
def test_an_answer_cut_into_rows_is_the_answer(case, pads):
    one, many, place, width, kind = case
    keys = dict(many.pop("keys"))
    if pads:
        nan, label = torch.full((pads, width), math.nan, dtype=torch.float64), torch.full((pads,), 99)
        new = {"lp": nan, "lr": nan, "mask": nan == 0, "scores": nan[:, 0], "group": label}
        many = {name: torch.cat([x, new[name]]) for name, x in many.items()}
        keys["session_ids"] = [*keys["session_ids"], *(f"pad{i}" for i in range(pads))]
        keys["session_index"] = torch.cat([keys["session_index"], torch.zeros(pads, dtype=torch.int64)])
    whole, rows = of(one, kind), of(many, kind, **keys)
    expected = torch.stack([whole.advantages[i, k * width : (k + 1) * width] for i, k in place])
    torch.testing.assert_close(rows.advantages[: len(place)], expected, rtol=1e-10, atol=1e-12)
    assert not rows.advantages[len(place) :].any()
    assert rows.metrics == pytest.approx(whole.metrics, rel=1e-9, abs=1e-12)
    cost, found = zip(
        *(
            sequence_divergence(
                Columns(b["lp"], b["lr"], b["mask"], group_ids=b["group"], scores=b["scores"], **more),
                kind["divergence"],
            )
            for b, more in ((one, {}), (many, keys))
        ),
        strict=True,
    )
    torch.testing.assert_close(cost[1][: len(place)], cost[0][[i for i, _ in place]], rtol=1e-10, atol=1e-12)
    assert found[1] == pytest.approx(found[0], rel=1e-9, abs=1e-12)


def test_the_chunks_change_nothing():
    # rows so wide that a chunk holds one session, and a session more than a chunk
    rows, columns = 7, 2**16
    generator = torch.Generator().manual_seed(0)
    lp, lr = -torch.rand(2, rows, columns, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, columns, generator=generator) < 0.9
    ids, index = [0, 1, 0, 2, 0, 2, 3], torch.tensor([2, 0, 0, 1, 1, 0, 0])
    outcome = torch.arange(rows) - 2.5
    result, metrics = frpo(outcome, lp, lr, mask, kl_coef=1.0, session_ids=ids, session_index=index)
    delta = torch.where(mask, lp - lr, 0.0)
    total = delta.sum(-1)
    later = torch.stack([torch.zeros_like(total[0]), total[0] * 0, total[4] + total[0], total[0] * 0, total[0], total[3], total[0] * 0])  # fmt: skip
    reg = torch.where(mask, delta.flip(-1).cumsum(-1).flip(-1) + later[:, None], 0.0)
    plain = torch.where(mask, outcome[:, None].double(), 0.0)
    torch.testing.assert_close(result, plain - reg)
    assert metrics["frpo/regularizer_share"] == pytest.approx(float(reg.abs().sum() / plain.abs().sum()))


def test_a_row_that_is_not_finite_is_named():
    session = Sessions()
    lp, mask = torch.where(session.mask, session.delta, 0.0), session.mask.clone()
    bad = int((session.ids == 5).nonzero()[0])
    mask[bad, 0], lp[bad, 0] = True, torch.nan
    first = int(((session.ids == 5) & (session.index == 0)).nonzero()[0])  # the answer's
    with pytest.raises(FloatingPointError, match=f"row {first}$"):
        frpo(torch.ones(len(lp)), lp, torch.zeros_like(lp), mask, **session.keys)


@pytest.mark.parametrize(
    "keys, says",
    [
        ({"session_ids": [0]}, "session_ids has shape (1,)"),
        ({"session_ids": [0, 0], "session_index": torch.zeros(3)}, "session_index has shape (3,)"),
        ({"session_ids": [0, 0], "group_ids": [0, 1]}, "session_ids: the rows of a session answer one prompt"),
    ],
)
def test_errors_name_the_argument(keys, says):
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError) as error:
        frpo(torch.zeros(2), x, x, torch.ones(2, 3), **keys)
    assert says in str(error.value) and "\n" not in str(error.value)
