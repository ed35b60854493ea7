"""A session of several rows is one answer: it gets what the same tokens in one row get, which the other tests prove exact."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import frpo

from frpo_verl.core.advantages import Columns, sequence_divergence
from frpo_verl.core.divergences import get_divergence


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
    begins = torch.rand(answers, columns, generator=g) < 0.3  # a step does not cross rows
    by_row = mask.view(answers, most, width)
    begins = mask & (begins | (by_row & (by_row.cumsum(-1) == 1)).view(answers, columns))
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
    elif kind["placement"] == "future" and draw(st.booleans()):
        one["begins"] = begins
        many["begins"] = torch.stack([begins[i, k * width : (k + 1) * width] for i, k in place])
    elif kind["placement"] == "future":
        kind["discount"] = draw(st.sampled_from([1.0, 0.7, 0.0]))
    gap = draw(st.sampled_from([1, 3]))  # an index that is missing changes no order; 10 comes after 9
    many["keys"] = {"session_ids": [f"s{i}" for i, _ in place], "session_index": torch.tensor([8 + gap * k for _, k in place])}  # fmt: skip
    return one, many, place, width, kind


def of(batch, kind, **keys):
    columns = (batch[name] for name in ("scores", "lp", "lr", "mask"))
    return frpo(*columns, kl_coef=0.3, group_ids=batch["group"], step_begins=batch.get("begins"), **kind, **keys)


@settings(deadline=None, max_examples=100)
@given(cuts(), st.integers(0, 2))
def test_an_answer_cut_into_rows_is_the_answer(case, pads):
    one, many, place, width, kind = case
    keys = dict(many.pop("keys"))
    if pads:
        nan, label = torch.full((pads, width), math.nan, dtype=torch.float64), torch.full((pads,), 99)
        new = {"lp": nan, "lr": nan, "mask": nan == 0, "begins": nan == 0, "scores": nan[:, 0], "group": label}
        many = {name: torch.cat([x, new[name]]) for name, x in many.items()}
        keys["session_ids"] = [*keys["session_ids"], *(f"pad{i}" for i in range(pads))]
        keys["session_index"] = torch.cat([keys["session_index"], torch.zeros(pads, dtype=torch.int64)])
    whole, rows = of(one, kind), of(many, kind, **keys)
    expected = torch.stack([whole.advantages[i, k * width : (k + 1) * width] for i, k in place])
    torch.testing.assert_close(rows.advantages[: len(place)], expected, rtol=1e-10, atol=1e-12)
    assert not rows.advantages[len(place) :].any()
    assert rows.metrics == pytest.approx(whole.metrics, rel=1e-9, abs=1e-12)
    (cost, found), (cut_cost, cut_found) = (
        sequence_divergence(
            Columns(b["lp"], b["lr"], b["mask"], group_ids=b["group"], scores=b["scores"], **more), kind["divergence"]
        )
        for b, more in ((one, {}), (many, keys))
    )
    torch.testing.assert_close(cut_cost[: len(place)], cost[[i for i, _ in place]], rtol=1e-10, atol=1e-12)
    assert cut_found == pytest.approx(found, rel=1e-9, abs=1e-12)


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
    lp, mask = torch.zeros(4, 2), torch.ones(4, 2)
    lp[1, 1] = math.nan
    keys = {"session_ids": [0, 7, 7, 2], "session_index": torch.tensor([0, 1, 0, 0])}
    with pytest.raises(FloatingPointError, match="row 2$"):  # the answer's first
        frpo(torch.ones(4), lp, torch.zeros_like(lp), mask, **keys)


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
