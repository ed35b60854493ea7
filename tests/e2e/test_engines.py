"""Gradients of every method through verl's Megatron engine, beside its FSDP2 engine; needs the extra `megatron-test`."""

import pytest
from engines import launch, main_ppo, toy

from frpo_verl import methods

MISSING = launch.missing_packages()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: `make test-megatron` installs megatron-core and runs this"),
]  # fmt: skip
RESOLUTION = 3e-6  # of a gradient whose largest entry is about 1, in float32


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """(model, what FSDP2 found for every case), one rank, rows padded."""
    folder = tmp_path_factory.mktemp("engines")
    model = toy.write_model(folder / "model")
    return model, launch.run_engine("fsdp2", model, folder / "fsdp2.pt", toy.cases())


def assert_equal(base: dict, other: dict) -> None:
    for column in ("old_log_probs", "ref_log_prob"):
        assert float((base[column] - other[column]).abs().max()) < 1e-5
    for row in launch.compare(base, other):
        assert row.gradient < RESOLUTION * max(1.0, row.largest_entry), row
        assert row.grad_norm[0] == pytest.approx(row.grad_norm[1], rel=2e-6), row
        assert row.loss[0] == pytest.approx(row.loss[1], abs=2e-6), row


def test_the_cases_are_every_name_of_the_plugin(base):
    cases = base[1]["cases"]
    for kind, label in (("policy_loss", "loss"), ("local_kl", "local KL"), ("estimator", "estimator")):
        for name in methods.of_kind(kind):
            assert any(case == f"{label} {name}" or case.startswith(f"{label} {name}:") for case in cases), name
    norms = {case: round(launch.number(found["metrics"]["grad_norm"]), 4) for case, found in cases.items()}
    assert len(set(norms.values())) > len(norms) * 0.6  # the cases differ: equal engines are not equal cases


@pytest.mark.parametrize(
    "tensor_parallel, pipeline_parallel, packed",
    [(1, 1, False), (2, 1, True), (1, 2, False)],
    ids=["one rank", "tensor parallel 2, packed", "pipeline parallel 2"],
)
def test_gradients_equal_those_of_fsdp2(base, tmp_path, tensor_parallel, pipeline_parallel, packed):
    model, fsdp2 = base
    layout = dict(tensor_parallel=tensor_parallel, pipeline_parallel=pipeline_parallel, packed=packed)
    assert_equal(fsdp2, launch.run_engine("megatron", model, tmp_path / "megatron.pt", toy.cases(), **layout))


def test_gradients_of_a_mixture_of_experts(tmp_path):
    model = toy.write_model(tmp_path / "model", "qwen3_moe")
    fsdp2, megatron = (launch.run_engine(e, model, tmp_path / f"{e}.pt", toy.MIXTURE) for e in ("fsdp2", "megatron"))
    assert_equal(fsdp2, megatron)


def test_main_ppo_trains_alike(tmp_path):
    inputs = main_ppo.make_inputs(tmp_path / "inputs")
    fsdp2, megatron = (main_ppo.train(inputs, tmp_path / e, e)[0] for e in ("fsdp2", "megatron"))
    assert sorted(fsdp2) == sorted(megatron) == [1, 2, 3]
    for step, mine in fsdp2.items():
        for name in ("critic/score/mean", "frpo/kl_to_ref/k1", "frpo/kl_to_ref/k3", "actor/grad_norm", "actor/loss"):
            assert megatron[step][name] == pytest.approx(mine[name], rel=1e-3, abs=1e-6), (step, name)
        assert megatron[step]["frpo/rollout_log_prob_diff_max"] < 1e-4
    assert fsdp2[3]["frpo/kl_to_ref/k3"] > 1e-4  # the policy moved
