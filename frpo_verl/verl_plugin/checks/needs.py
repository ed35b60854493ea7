"""What a method needs, obeys and cannot live with, as the table says, against a run's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from ... import methods
from ...methods import KINDS, Method, names
from ...methods.settings import ACTOR, POLICY_LOSS, FHalSettings, FrpoLossSettings, FrpoSettings, RpgSettings, Section
from ..run import EXPERIMENTAL, Run

CORRECTION = "algorithm.rollout_correction"
VERL_COMPARES = (  # an answer without another one to its prompt keeps its bare reward
    *("grpo", "grpo_vectorized", "grpo_passk", "gdpo", "rloo", "rloo_vectorized", "opo", "gpg"),
    "reinforce_plus_plus_baseline",
)
VERL_PER_TOKEN = ("gae", "optimal_token_baseline", "tir_optimal_token_baseline")
VERL_TO_GO = ("reinforce_plus_plus", "remax")  # sums of what is still to come
LOSS_KEYS = (
    *("clip_ratio", "clip_ratio_low", "clip_ratio_high", "clip_ratio_c", "loss_agg_mode", "loss_scale_factor"),
    *("tau_pos", "tau_neg"),
)
ESTIMATOR_KEYS = ("gamma", "lam", "norm_adv_by_std_in_grpo", "use_pf_ppo", "gdpo_reward_keys", "gdpo_reward_weights")


def refusals(run: Run) -> Iterator[str]:
    """What a run's methods do not have, or do not read."""
    for method, settings in run.chosen:
        yield from _needed(run, method, settings)
        if method.kind != "local_kl":
            yield from _unread(run, method, settings)
        if isinstance(settings, (FrpoSettings, FrpoLossSettings)) and settings.kl_coef > 0:
            yield from divergence_refusals(settings)
    if isinstance(run.estimator_settings, FrpoSettings):
        yield from _outcome(run, run.estimator_settings.outcome)
    if run.loss is not None and "one_value" in run.loss.all_needs(run.loss_settings):
        yield from _one_value(run, run.loss)
    yield from _left_out_tokens(run)
    yield from _beside_each_other(run)
    yield from mini_batch_refusals(run)
    yield from _kl_counted_twice(run)


def _needed(run: Run, method: Method, settings: Section | None) -> Iterator[str]:
    """A run has what the table says that its method needs."""
    needs, n = method.all_needs(settings), int(run.get("actor_rollout_ref.rollout.n", 1))
    if "groups" in needs and n < 2:
        yield f"actor_rollout_ref.rollout.n={n}: {method.typed} compares a prompt's answers; set it to 2 or more"
    if "centred" in needs and n < 2 and run.estimator_name in VERL_COMPARES:
        yield (
            f"actor_rollout_ref.rollout.n={n}: adv_estimator={run.estimator_name} hands on the bare reward of a group of one, "
            f"and {method.typed} needs values on both sides of 0; set it to 2 or more, or adv_estimator=rpg_batch_mean"
        )
    if "v1" in needs and not run.get("trainer.use_v1", True):
        yield f"trainer.use_v1=false: {method.typed} runs in verl's V1 trainer only; set it to true"
    if "v1" in needs and run.trainer in EXPERIMENTAL:
        yield (
            f"rollout.*, a section of verl.experimental's trainers: {method.typed} runs in verl's V1 trainer only; use "
            "verl.trainer.main_ppo (trainer.v1.trainer_mode=separate_async trains beside its rollout too)"
        )
    if method.with_loss not in (None, run.loss_name):
        yield (
            f"{POLICY_LOSS}.loss_mode={run.loss_name}: {method.typed} makes weights for {method.with_loss} only; set "
            f"loss_mode={method.with_loss}"
        )
    for refusal in (refusal for need in sorted(needs) for refusal in methods.NEEDS[need].refuses):
        value = OmegaConf.select(run.config, refusal.key)
        if value not in refusal.allowed:
            allowed = "null" if refusal.allowed[0] is None else str(refusal.allowed[0]).lower()
            yield (
                f"{refusal.key}={str(value).lower()} {refusal.why}: {method.typed} cannot work with it; set it to {allowed}"
            )


def _unread(run: Run, method: Method, settings: Section | None) -> Iterator[str]:
    """A key of verl's for the same purpose that the method does not read must keep its default."""
    for short, limit in method.limits.items():
        value = run.get(f"{ACTOR}.{short}", None)
        if value is not None and value not in limit:
            yield f"{ACTOR}.{short}={value}: must be {limit} for {method.typed}"
    obeyed = (method.obeys if settings is None else settings.obeys(method.obeys)) | set(method.from_verl.values())
    whole = method.kind == "policy_loss" and "one_value" in method.all_needs(settings)
    if whole:
        obeyed -= {"loss_agg_mode", "loss_scale_factor"}  # a mean over responses, whatever these say
    for key, default in _verl_defaults(method.kind):
        short, value = key.rsplit(".", 1)[1], run.get(key, default)
        allowed = [default, "seq-mean-token-sum"] if whole and short == "loss_agg_mode" else [default]
        if short not in obeyed and "*" not in obeyed and not any(value == a or str(value) == str(a) for a in allowed):
            own = f" (its own settings are {method.section.KEY}.*)" if method.section is not None else ""
            yield f"{key}={value}: {method.typed} does not read it{own}; leave it at {default}"


def _verl_defaults(kind: str) -> Iterator[tuple[str, Any]]:
    """verl's keys for estimators or losses, with verl's own defaults."""
    from verl.trainer.config.algorithm import AlgoConfig
    from verl.workers.config import ActorConfig
    from verl.workers.config import PolicyLossConfig as VerlPolicyLoss

    place, section, keys = "algorithm", AlgoConfig, set(ESTIMATOR_KEYS)
    if kind == "policy_loss":
        place, section, keys = ACTOR, ActorConfig, set(LOSS_KEYS)
        for f in dataclasses.fields(VerlPolicyLoss):
            if f.name not in ("loss_mode", "rollout_correction") and not f.name.startswith("_"):
                yield f"{POLICY_LOSS}.{f.name}", f.default
    yield from ((f"{place}.{f.name}", f.default) for f in dataclasses.fields(section) if f.name in keys)


def _outcome(run: Run, name: str) -> Iterator[str]:
    """The estimator of the reward's part exists, and this run has what it reads."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    key, legacy = "algorithm.frpo.outcome", run.trainer == "legacy"
    own = [other for other in methods.of_kind("estimator") if other not in names.OUTCOMES_OF_OURS]
    allowed = sorted({"none", *ADV_ESTIMATOR_REGISTRY} - set(own))
    if name not in allowed:
        yield f"{key}={name!r}: not one of {', '.join(allowed)}{names.nearest(name, allowed)}"
    if name == "gae" and run.get("critic.enable") is not True:
        yield f"{key}=gae reads a critic's values and verl starts none for frpo; set critic.enable=true"
    if name == "remax":
        yield f"{key}=remax: verl makes its greedy answers for adv_estimator=remax only; set outcome=rloo"
    sums = legacy and run.get(f"{ACTOR}.calculate_sum_pi_squared", False)
    if name in ("optimal_token_baseline", "tir_optimal_token_baseline") and not sums:
        yield (
            f"{key}={name} reads sum_pi_squared, which verl's legacy trainer alone computes; set trainer.use_v1=false and "
            f"{ACTOR}.calculate_sum_pi_squared=true"
        )
    if name == "gdpo" and (not legacy or not run.get("algorithm.gdpo_reward_keys")):
        yield (
            f"{key}=gdpo reads the parts of the reward, which verl's legacy trainer alone hands it; set trainer.use_v1=false "
            "and algorithm.gdpo_reward_keys"
        )


def _one_value(run: Run, loss: Method) -> Iterator[str]:
    """A loss of whole responses has one weight for each: not an estimator, nor weights, that differ by token."""
    level = f" with {loss.section.KEY}.level=sequence" if loss.name.startswith("rpg") and loss.section else ""
    settings, by_token = run.estimator_settings, run.estimator_name in VERL_PER_TOKEN
    if isinstance(settings, FrpoSettings):
        by_token = not settings.one_value
    elif run.estimator_name in VERL_TO_GO:
        by_token = run.get("algorithm.gamma", 1.0) != 1.0 or run.get("algorithm.use_kl_in_reward", False)
    if by_token:
        yield (
            f"algorithm.adv_estimator={run.estimator_name} gives each token its own advantage and {loss.typed}{level} "
            "needs one for each response: set algorithm.adv_estimator=grpo, or a loss by token"
        )
    weights = run.get(f"{CORRECTION}.rollout_is")
    if weights not in (None, "sequence"):
        yield (
            f"{CORRECTION}.rollout_is={weights} gives each token its own weight and {loss.typed}{level} "
            "needs one for each response: set it to sequence or null"
        )


def _left_out_tokens(run: Run) -> Iterator[str]:
    """verl rejects single tokens by the response mask: a sum over the answer would then leave them out."""
    modes = str(run.get(f"{CORRECTION}.rollout_rs", ""))
    for method, settings in run.chosen if "token_" in modes else ():
        sums = "one_value" in method.all_needs(settings)
        if isinstance(settings, (FrpoSettings, FrpoLossSettings)) and settings.kl_coef > 0:
            sums = getattr(settings, "placement", "future") != "local"
        if sums:
            yield (
                f"{CORRECTION}.rollout_rs={modes} takes single tokens out of the response mask, and the sum "
                f"over an answer of {method.typed} would miss them: reject whole answers (seq_mean_k3, seq_max_k2, ...) or "
                "set it to null"
            )


def _beside_each_other(run: Run) -> Iterator[str]:
    """Two settings of which one takes away what the other works on."""
    settings = run.estimator_settings
    if getattr(settings, "on_nonfinite", "raise") == "zero_row" and run.get("algorithm.use_kl_in_reward", False):
        yield (
            "algorithm.frpo.on_nonfinite=zero_row beside algorithm.use_kl_in_reward=true: NaN of the reference would be in "
            "the reward before its answer is left out; set on_nonfinite=raise or use_kl_in_reward=false"
        )
    if run.softmax_weights and isinstance(settings, FHalSettings) and settings.preference_weight == 1:
        yield (
            f"{POLICY_LOSS}.f_grpo.weights=softmax: weighs the policy's own answers, and algorithm.f_hal.preference_weight=1 "
            "leaves them out; set weights=none or a preference_weight below 1"
        )


def mini_batch_refusals(run: Run) -> Iterator[str]:
    """Where answers are averaged, verl divides by the mini-batch as typed, empty rows that fill its last one up included."""
    batch, mini = int(run.get("data.train_batch_size", 0)), int(run.get(f"{ACTOR}.ppo_mini_batch_size", 0))
    if batch == 0 or mini == 0 or run.get("trainer.val_only", False):
        return
    by_answer = str(run.get(f"{ACTOR}.loss_agg_mode", "token-mean")).startswith("seq-mean")
    by_answer |= run.loss is not None and "one_value" in run.loss.all_needs(run.loss_settings)
    prompts = batch // int(run.get(f"trainer.v1.{run.trainer}.parameter_sync_step", 1))
    if prompts % mini and (by_answer or not run.v1):
        what = "verl fills it up with empty rows, which a mean over answers counts" if run.v1 else "verl stops at that"
        yield (
            f"{ACTOR}.ppo_mini_batch_size={mini} does not divide the {prompts} prompts of an update "
            f"(data.train_batch_size={batch}), and its last mini-batch is not full: {what}; set it to a divisor of "
            f"{prompts}"
        )


def divergence_refusals(settings: FrpoSettings | FrpoLossSettings) -> Iterator[str]:
    """The divergence can be had, and stays finite in float32 as far as log-ratios may go."""
    from ...core.divergences import finite_up_to
    from ...core.proof import check_divergence
    from ...custom import load_divergence

    try:
        divergence = load_divergence(settings.divergence, settings.alpha)
    except ValueError as error:
        yield f"{settings.KEY}.{error}"
        return
    if settings.divergence not in names.DIVERGENCES:
        for finding in check_divergence(divergence):
            if not finding.ok:
                yield (
                    f"{settings.KEY}.divergence={settings.divergence}: {finding.name}: {finding.text}; run "
                    f"`python -m frpo_verl check {settings.divergence}`"
                )
    bound = finite_up_to(divergence, settings.log_ratio_clip)
    if bound < settings.log_ratio_clip:
        yield (
            f"{settings.KEY}.log_ratio_clip={settings.log_ratio_clip:g}: {divergence.name} leaves float32's range beyond "
            f"a log-ratio of {bound:.3g}; set it to {int(bound) or bound:g} or less (20 is the default)"
        )


def _kl_counted_twice(run: Run) -> Iterator[str]:
    """Two terms that hold the policy to the same reference."""
    terms: list[tuple[str, float, str]] = []  # key, coefficient, cure
    for method, s in run.chosen:
        if s is not None and getattr(s, "kl_coef", 0.0) > 0 and "reference" in method.all_needs(s):
            terms.append((f"{s.KEY}.kl_coef", s.kl_coef, f"{s.KEY}.kl_coef=0"))  # type: ignore[attr-defined]
    if not terms or getattr(run.estimator_settings, "allow_multiple_kl", False):
        return
    if run.get("algorithm.use_kl_in_reward", False):
        coefficient = float(run.get("algorithm.kl_ctrl.kl_coef", 0.0))
        terms.append(("algorithm.use_kl_in_reward=true with kl_ctrl.kl_coef", coefficient, "use_kl_in_reward=false"))
    in_the_loss = run.get(f"{ACTOR}.kl_loss_coef", 0.0)
    if run.get(f"{ACTOR}.use_kl_loss", False) and float(in_the_loss) != 0:
        terms.append((f"{ACTOR}.use_kl_loss=true with kl_loss_coef", in_the_loss, "use_kl_loss=false"))
    if len(terms) > 1:
        (first, a, one), (second, b, other) = terms[0], terms[-1]
        allow = ", or algorithm.frpo.allow_multiple_kl=true" if run.regularizes_advantage else ""
        yield f"{second}={b} beside {first}={a} counts the KL twice: set {other} or {one}{allow}"


def cautions(run: Run) -> Iterator[str]:
    """What is obeyed and still may not be what is meant."""
    updates, loss, key = run.updates_per_rollout, run.loss_settings, KINDS["local_kl"]
    local = run.local_kls.get(key)
    if local is not None and "old" not in local.needs and updates > 1 and run.get(f"{ACTOR}.kl_loss_coef", 0.0):
        yield (
            f"{key}={run.local_kl_keys[key]}: its gradient is the KL's in the first of {updates:g} "
            "updates per rollout only, later ones have no importance weights; kl_loss_type=k3_is has them (reverse KL)"
        )
    if getattr(run.estimator_settings, "baseline", "none") == "remaining":
        yield (
            "algorithm.frpo.baseline=remaining: the paper's (T - t) * mean KL reads the answer's own length and biases the "
            "gradient towards changing it; baseline=position is unbiased"
        )
    if isinstance(loss, RpgSettings) and loss.reference == "old" and loss.kl_coef > 0 and updates <= 1:
        yield (
            f"{loss.KEY}.reference=old: with one update per rollout the policy is its own reference, and kl_coef="
            f"{loss.kl_coef:g} moves nothing; set reference=ref, or {ACTOR}.ppo_mini_batch_size below data.train_batch_size"
        )
