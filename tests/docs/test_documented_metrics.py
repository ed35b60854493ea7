"""docs/diagnostics.md names every metric that the code logs, and no other."""

import re
from pathlib import Path

import pytest
import torch
from documented_metrics import assert_documented, documented
from verl.trainer.ppo import core_algos  # noqa: F401 - first: the plugin's losses register themselves when it is imported
from verl.utils.py_functional import rename_dict

import frpo_verl
from frpo_verl import methods
from frpo_verl.core.divergences import get_divergence
from frpo_verl.core.losses.terms import LossTerms, read_loss_inputs
from frpo_verl.core.metrics import METRIC_NAMES
from frpo_verl.verl_plugin.losses import CLIP_FRACTIONS

PACKAGE = Path(frpo_verl.__file__).parent
DRIVER = [name for name in METRIC_NAMES if name not in CLIP_FRACTIONS]  # those two belong to a loss


def of_losses() -> set[str]:
    """The names that the losses report, as verl's trainer renames them."""
    x = torch.tensor([[-1.0, -2.0], [-0.5, -1.0]])
    others = {"old_log_prob": x + 0.1, "ref_log_prob": x - 0.1, "advantages": torch.tensor([1.0, -1.0])}
    inputs = read_loss_inputs(log_prob=x, mask=torch.ones(2, 2), **others)
    found = dict(CLIP_FRACTIONS)
    for method in methods.of_kind("policy_loss").values():
        if not method.function.startswith("frpo_verl."):
            continue
        keywords = method.keywords(method.parse(None))
        if "divergence" in keywords and method.name == "frpo":
            keywords["divergence"] = get_divergence("reverse_kl")
        result = method.load()(inputs, **keywords)
        found |= result.metrics if isinstance(result, LossTerms) else result[1]
    return set(rename_dict(found, "actor/"))


def written_in_the_code() -> set[str]:
    """Names of metrics as they are written in the sources, f-string fields as patterns."""
    texts = {p.stem: p.read_text() for folder in ("core", "verl_plugin") for p in (PACKAGE / folder).rglob("*.py")}
    imported = " ".join(line for text in texts.values() for line in text.splitlines() if "import" in line)
    logging = [text for stem, text in texts.items() if re.search(rf"\b{stem}\b", imported)]  # the others log nothing
    return {name for text in logging for name in re.findall(r"\"((?:actor/|frpo/)[a-z0-9_/{}]+)\"", text)}


def test_every_metric_of_the_code_is_on_the_page_and_no_other():
    from_code = {*DRIVER, *of_losses()}
    for written in written_in_the_code():
        fields_open = re.sub(r"\\{.*?\\}", r"\\w+", re.escape(written))
        pattern = re.compile(rf"(actor/)?{fields_open}")  # verl's prefix for what a loss reports
        matching = {name for name in documented() if pattern.fullmatch(name)}
        assert matching, f"{written} is logged by the code and not in docs/diagnostics.md"
        from_code |= matching
    assert sorted(from_code) == sorted(documented())


def test_a_name_that_is_not_documented_is_found():
    assert_documented({"frpo/kl_to_ref/k1": 0.0, "actor/f_grpo/margin": 0.0, "critic/score/mean": 0.0})
    for name in ("frpo/kl_to_ref/k2", "frpo/policy_clip_frac/positive_advantage", "actor/f_grpo/v", "actor/frpo/x"):
        with pytest.raises(AssertionError, match=name):
            assert_documented({name: 0.0})
