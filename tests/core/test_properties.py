"""What must not matter does not: masked tokens, row order, group labels, pad rows, a common shift."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frpo_verl.core.advantages import Columns, Regularizer, regularized_advantages, sequence_divergence
from frpo_verl.core.divergences import DIVERGENCES, get_divergence
from frpo_verl.core.steps import steps_by_length, steps_by_newline

JUNK = torch.tensor([math.nan, math.inf, -math.inf, 1e30], dtype=torch.float64)
EVERY = settings(deadline=None, max_examples=60)
DECODE = ["a", "b\n", "\n", "c"].__getitem__


@st.composite
def batches(draw):
    """A batch (dict of (B, T) and (B,) tensors) and the settings of a regulariser."""
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 10))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    mask = rand(rows, columns) < draw(st.sampled_from([0.3, 0.8, 1.0]))
    junk = JUNK[torch.randint(0, 4, (rows, columns), generator=generator)]
    batch = {
        "log_prob": torch.where(mask, -4 * rand(rows, columns), junk),
        "ref_log_prob": torch.where(mask, -4 * rand(rows, columns), junk.flip(0)),
        "mask": mask.to(draw(st.sampled_from([torch.bool, torch.int64, torch.float32]))),
        "entropy": torch.where(mask, rand(rows, columns), junk.flip(1)), "outcome": rand(rows) - 0.5,
        "tokens": torch.randint(0, 4, (rows, columns), generator=generator),
        "group": torch.randint(0, 3, (rows,), generator=generator),
    }  # fmt: skip
    batch["session"] = 4 * batch["group"] + torch.randint(0, 4, (rows,), generator=generator)
    batch["place"] = torch.randperm(rows, generator=generator)
    name = draw(st.sampled_from(sorted(DIVERGENCES)))
    placement = draw(st.sampled_from(["future", "future", "local", "sequence", "reward_to_go"]))
    baselines = {"future": ["none", "position", "remaining"], "reward_to_go": ["none"]}
    kind = {
        "divergence": get_divergence(name, 0.5 if name == "alpha" else None), "placement": placement,
        "baseline": draw(st.sampled_from(baselines.get(placement, ["none", "position"]))),
        "norm_by_std": placement != "reward_to_go" or draw(st.booleans()),
    }  # fmt: skip
    more = {"sessions": draw(st.booleans()), "step": "token"}
    if placement == "future" and kind["baseline"] != "remaining":
        more["step"] = draw(st.sampled_from(["token", "length", "newline"]))
        if more["step"] == "token":
            kind["discount"] = draw(st.sampled_from([1.0, 0.9, 0.5, 0.0]))
    return batch, kind, more


def run(batch, kind, more):
    """(B, T) token advantages, (B,) sequence divergence and the metrics of a batch."""
    lp, lr, mask = batch["log_prob"], batch["ref_log_prob"], batch["mask"]
    begins = None
    if more["step"] == "length":
        begins = steps_by_length(mask, 3)
    if more["step"] == "newline":
        begins = steps_by_newline(batch["tokens"], mask, DECODE)
    sessions = {"session_ids": batch["session"], "session_index": batch["place"]} if more["sessions"] else {}
    more_columns = {"step_begins": begins, "entropy": batch["entropy"], **sessions}
    columns = Columns(lp, lr, mask, batch["outcome"], batch["group"], **more_columns)
    adv, metrics = regularized_advantages(columns, Regularizer(0.3, **kind))
    cost, _ = sequence_divergence(columns, kind["divergence"])
    assert torch.isfinite(adv).all() and (adv[~mask.bool()] == 0).all()
    assert all(math.isfinite(v) for v in metrics.values())
    return adv, cost, metrics


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def same_metrics(a, b):
    assert a.keys() == b.keys()
    assert all(math.isclose(a[k], b[k], rel_tol=1e-9, abs_tol=1e-9) for k in a)


@EVERY
@given(batches(), st.integers(0, 2**31))
def test_masked_tokens_inserted_anywhere_change_nothing(case, seed):
    batch, kind, more = case
    adv, cost, metrics = run(*case)
    generator = torch.Generator().manual_seed(seed)
    rows, columns = adv.shape
    extra = int(torch.randint(1, 5, (1,), generator=generator))
    # each row gets its own places: column c of the old row moves to place[row, c]
    place = torch.rand(rows, columns + extra, generator=generator).argsort(-1)[:, :columns].sort(-1).values

    def spread(x, fill):
        return torch.full((rows, columns + extra), fill, dtype=x.dtype).scatter(1, place, x)

    wide = dict(batch)
    fills = {"log_prob": math.nan, "ref_log_prob": 1e30, "entropy": math.inf, "mask": 0, "tokens": 2}
    wide |= {name: spread(batch[name], fill) for name, fill in fills.items()}
    wide_adv, wide_cost, wide_metrics = run(wide, kind, more)
    same(wide_adv.gather(1, place), adv)
    same(wide_cost, cost)
    same_metrics(wide_metrics, metrics)


@EVERY
@given(batches(), st.randoms())
def test_permuted_rows_permute_the_result(case, random):
    batch, kind, more = case
    adv, cost, metrics = run(*case)
    order = list(range(adv.shape[0]))
    random.shuffle(order)
    permuted_adv, permuted_cost, permuted_metrics = run({k: x[order] for k, x in batch.items()}, kind, more)
    same(permuted_adv, adv[order])
    same(permuted_cost, cost[order])
    same_metrics(permuted_metrics, metrics)


@EVERY
@given(batches(), st.permutations([-5, 0, 10**12, 7]))
def test_relabelled_groups_and_sessions_change_nothing(case, labels):
    batch, kind, more = case
    labels = torch.tensor(labels)
    renamed = {**batch, "group": labels[batch["group"]], "session": labels[batch["session"] % 4] + 100 * batch["group"]}
    for a, b in zip(run(renamed, kind, more)[:2], run(*case)[:2], strict=True):
        same(a, b)


@EVERY
@given(batches(), st.integers(1, 3), st.booleans())
def test_added_pad_rows_change_nothing(case, pads, known_group):
    batch, kind, more = case
    adv, cost, metrics = run(*case)
    columns = adv.shape[1]
    nan = torch.full((pads, columns), math.nan, dtype=torch.float64)
    label = batch["group"][0] if known_group else torch.tensor(99)
    new = {
        "log_prob": nan, "ref_log_prob": nan, "entropy": nan, "mask": torch.zeros(pads, columns, dtype=batch["mask"].dtype),
        "tokens": torch.zeros(pads, columns, dtype=torch.int64),
        "outcome": torch.full((pads,), 5.0, dtype=torch.float64), "group": label.expand(pads),
        "session": torch.arange(100, 100 + pads), "place": torch.zeros(pads, dtype=torch.int64),
    }  # fmt: skip
    padded_adv, padded_cost, padded_metrics = run({k: torch.cat([x, new[k]]) for k, x in batch.items()}, kind, more)
    same(padded_adv[:-pads], adv)
    same(padded_cost[:-pads], cost)
    assert (padded_adv[-pads:] == 0).all() and (padded_cost[-pads:] == 0).all()
    same_metrics(padded_metrics, metrics)


@EVERY
@given(batches(), st.floats(-3, 3))
def test_a_constant_added_to_both_log_probs_changes_nothing(case, constant):
    batch, kind, more = case
    moved = {**batch, **{k: batch[k] + constant for k in ("log_prob", "ref_log_prob")}}
    for a, b in zip(run(moved, kind, more)[:2], run(*case)[:2], strict=True):
        same(a, b)


@EVERY
@given(batches())
def test_float32_follows_float64(case):
    batch, kind, more = case
    low = {k: x.float() if x.dtype == torch.float64 else x for k, x in batch.items()}
    exact = {k: x.double() if x.dtype == torch.float32 and k != "mask" else x for k, x in low.items()}
    low_adv, exact_adv = run(low, kind, more)[0], run(exact, kind, more)[0]
    assert low_adv.dtype == torch.float32
    torch.testing.assert_close(low_adv.double(), exact_adv, rtol=1e-4, atol=1e-5 * (1 + exact_adv.abs().max().item()))
