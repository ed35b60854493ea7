"""LoRA: the reference is the model without its adapters, and runs train. verl hands the merged weights over in bfloat16."""

import e2e
import pytest

pytestmark = pytest.mark.e2e
LORA = [
    "actor_rollout_ref.model.lora_rank=8",
    "actor_rollout_ref.model.lora.merge=true",
    "trainer.total_training_steps=3",
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return e2e.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize("method", ["frpo", "f_grpo"])
def test_a_run_with_adapters_starts_at_its_reference_and_moves(inputs, tmp_path, method):
    status, metrics, output = e2e.train(inputs, tmp_path, f"method={method}", *LORA)
    assert status == 0, output[-5000:]
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)  # adapters begin at 0
    assert metrics[3]["frpo/kl_to_ref/k3"] > 1e-5 and metrics[3]["actor/grad_norm"] > 0
    # the rollout's weights are rounded to bfloat16 (engine/fsdp/transformer_impl.py:1082), the trainer's are float32
    assert metrics[2]["training/rollout_probs_diff_max"] < 0.2
