"""step: newline through verl's compute_advantage: where the token ids and the tokenizer come from."""

import pytest
import torch
from batches import advantages, batch
from omegaconf import OmegaConf

from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer
from frpo_verl.verl_plugin import batch as views
from frpo_verl.verl_plugin import run

TEXT = ["1+1\n", "=", "2\n\n", "#### ", "2"]  # what a token of the merged vocabulary stands for
IDS = torch.tensor([[1, 0, 3, 2, 4, 9]])  # "=", "1+1\n", "#### ", "2\n\n", "2", padding
MASK = torch.tensor([[1, 1, 1, 1, 1, 0]])
LOG_RATIO = torch.tensor([[0.1, 0.2, 0.4, 0.8, 1.6, 50.0]], dtype=torch.float64)
BY_LINE = torch.tensor([[3.1, 3.1, 2.8, 2.8, 1.6, 0.0]], dtype=torch.float64)  # each line takes its start's KL-to-go


@pytest.fixture(autouse=True)
def nothing_in_the_queue(monkeypatch):
    monkeypatch.setattr(views.Source, "padded", lambda self, column: None)


class Merged:
    def decode(self, ids):
        return "".join(TEXT[i] for i in ids)


def data(ids=IDS):
    made = batch(torch.zeros(1, 6, dtype=torch.float64), MASK, LOG_RATIO - 3, torch.full_like(LOG_RATIO, -3.0), ["u"])
    if ids is not None:
        made.batch["responses"] = ids
    return made


def check(result):
    torch.testing.assert_close(result, -0.5 * BY_LINE, rtol=0, atol=1e-12)


def test_the_trainers_tokenizer_splits_on_merged_tokens():
    with views.open_source([], None, Merged()):
        check(advantages(data(), kl_coef=0.5, step="newline"))


def test_responses_that_the_trainer_left_behind_are_fetched(monkeypatch):
    """The V1 trainer's batch lacks them, and what it hands out may be padded wider than the mask."""
    asked = []

    def padded(self, column):
        asked.append(column)
        return torch.cat([IDS, torch.full((1, 3), 9)], dim=1) if column == "responses" else None

    monkeypatch.setattr(views.Source, "padded", padded)
    with views.open_source([], None, Merged()):
        check(advantages(data(ids=None), kl_coef=0.5, step="newline"))
    assert "responses" in asked


def test_without_a_tokenizer_in_hand_the_models_own_is_loaded(tmp_path, monkeypatch):
    write_tokenizer(tmp_path)
    ids = torch.tensor([load_tokenizer(tmp_path).encode("a\nbc\nd", add_special_tokens=False)])
    known = OmegaConf.create({"actor_rollout_ref": {"model": {"path": str(tmp_path)}}})
    run.remember(known)
    made = data(ids)
    made.batch["response_mask"] = torch.ones(1, 6)
    made.batch["old_log_probs"] = torch.tensor([[0.1, 0.2, 0.4, 0.8, 1.6, 3.2]], dtype=torch.float64) - 3
    expected = -0.5 * torch.tensor([[6.3, 6.3, 6.0, 6.0, 6.0, 3.2]], dtype=torch.float64)
    torch.testing.assert_close(advantages(made, kl_coef=0.5, step="newline"), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("missing", ["tokenizer", "responses"])
def test_what_is_missing_is_named_with_the_cure(missing, monkeypatch):
    tokenizer = None if missing == "tokenizer" else Merged()
    with views.open_source([], None, tokenizer):
        with pytest.raises(RuntimeError, match=f"step=newline needs the {missing}.*use step=length"):
            advantages(data(IDS if missing == "tokenizer" else None), kl_coef=0.5, step="newline")
