"""The table of methods: what is true of an estimator, a policy loss or a local KL term is said here, once.

Everything else is derived from it: what is registered with verl, which runs need a reference model, which settings are
refused, what `doctor` and `paths` print, the list of names in the docs. A row of another package joins by `add`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from . import names, ranges
from .method import KINDS, Method
from .settings import (
    ACTOR,
    POLICY_LOSS,
    ClipSettings,
    ConfigError,
    CorpoSettings,
    FGrpoSettings,
    FHalSettings,
    FrpoLossSettings,
    FrpoSettings,
    RpgSettings,
)

STRAIGHT_THROUGH = ("reverse_kl", "reverse_kl_k3")  # local KLs whose gradient is that of verl's `+`

_NORM = frozenset({"norm_adv_by_std_in_grpo"})
_AGGREGATION = frozenset({"loss_agg_mode", "loss_scale_factor"})
_DUAL_CLIP = {"clip_ratio_c": ranges.DUAL_CLIP}
_CLIP = frozenset({"clip_ratio", "clip_ratio_low", "clip_ratio_high", "clip_ratio_c"})


def _frpo_rows() -> Iterator[Method]:
    for name in ("frpo", *(f"frpo_{divergence}" for divergence in names.DIVERGENCES)):
        divergence = name.removeprefix("frpo").removeprefix("_")
        order = ("+algorithm.frpo.alpha=0.5",) if divergence == "alpha" else ()
        yield Method(
            name, "estimator", "frpo_verl.core.advantages:regularized_advantages",
            adapter="frpo_verl.verl_plugin.estimators:frpo", section=FrpoSettings,
            fixes={"divergence": divergence} if divergence else {}, obeys=_NORM,
            page="divergences.md" if divergence else "frpo.md",
            recipe=("method=frpo", f"algorithm.adv_estimator={name}", *order) if divergence else ("method=frpo",),
            test="core/test_advantages.py::test_expected_gradient_is_that_of_the_enumerated_objective",
        )  # fmt: skip


def _outcome_rows() -> Iterator[Method]:
    for name, section, test in (
        ("corpo", CorpoSettings, "test_corpo_never_pushes_below_the_threshold_and_never_sums_above_zero"),
        ("maxrl", None, "test_maxrl_is_the_gradient_of_log_p_in_a_large_group"),
    ):
        yield Method(
            name, "estimator", f"frpo_verl.core.outcomes:{name}_advantages",
            adapter=f"frpo_verl.verl_plugin.estimators:{name}", section=section, needs=frozenset({"groups"}),
            obeys=_NORM,  # false is what they do: they never divide by it
            page="outcomes.md", recipe=(f"method={name}",), test=f"core/test_outcomes.py::{test}",
        )  # fmt: skip


def _rpg_rows() -> Iterator[Method]:
    for prefix in ("rpg_", "rpg_rf_"):
        for variant in names.RPG_VARIANTS:
            yield Method(
                prefix + variant, "policy_loss", "frpo_verl.core.losses.rpg:rpg_loss",
                section=RpgSettings, fixes={"variant": variant, "reinforce": prefix == "rpg_rf_"},
                needs=frozenset({"old", "centred"}), obeys=_AGGREGATION,
                page="rpg.md", recipe=(f"method={prefix}{variant}",),
                test="core/test_rpg.py::test_sequence_level_is_the_exact_gradient_off_policy",
            )  # fmt: skip


def _clip_rows() -> Iterator[Method]:
    for name, fixes, recipe in (
        ("divergence_clip", {}, ("method=atr_grpo", f"{POLICY_LOSS}.loss_mode=divergence_clip")),
        ("atr_grpo", {"measure": "kl3"}, ("method=atr_grpo",)),
    ):
        yield Method(
            name, "policy_loss", "frpo_verl.core.losses.clipping:divergence_clip_loss",
            section=ClipSettings, fixes=fixes, needs=frozenset({"old"}), obeys=_AGGREGATION,
            from_verl={"dual_clip_c": "clip_ratio_c"}, limits=_DUAL_CLIP,
            page="clipping.md", recipe=recipe,
            test="core/test_clipping.py::test_gradient_is_kept_exactly_while_the_estimate_is_within_delta",
        )  # fmt: skip


def _local_kl_rows() -> Iterator[Method]:
    for name in (*names.DIVERGENCES, "k3_is"):
        typed = "alpha:0.5" if name == "alpha" else name
        yield Method(
            name, "local_kl", "frpo_verl.core.losses.kl_terms:local_kl",
            needs=frozenset({"reference", "old"} if name == "k3_is" else {"reference"}),
            page="kl_placement.md", recipe=("method=grpo_kl_loss", f"{KINDS['local_kl']}={typed}"),
            test="core/test_kl_terms.py::test_value_and_local_gradient_on_policy",
        )  # fmt: skip


def _rows() -> Iterator[Method]:
    yield from _frpo_rows()
    yield Method(
        "f_hal", "estimator", "frpo_verl.core.losses.f_grpo:signed_weights",
        adapter="frpo_verl.verl_plugin.estimators:f_hal", section=FHalSettings,
        needs=frozenset({"groups", "v1", "recorded", "one_row"}), obeys=_NORM, with_loss="f_grpo",
        page="f_hal.md", recipe=("method=f_hal",), test="core/test_f_grpo.py::test_f_hal_ends_and_mixture",
    )  # fmt: skip
    yield Method(
        "rpg_batch_mean", "estimator", "frpo_verl.core.outcomes:batch_mean_advantages",
        adapter="frpo_verl.verl_plugin.estimators:rpg_batch_mean",
        obeys=_NORM,  # false is what it does: it never divides
        page="rpg.md", recipe=("method=rpg_urkl", "algorithm.adv_estimator=rpg_batch_mean"),
        test="core/test_outcomes.py::test_the_batch_mean_with_literal_numbers",
    )  # fmt: skip
    yield from _outcome_rows()
    yield from _rpg_rows()
    yield from _clip_rows()
    yield Method(
        "f_grpo", "policy_loss", "frpo_verl.core.losses.f_grpo:f_grpo_loss", section=FGrpoSettings,
        needs=frozenset({"reference", "old", "centred", "one_row", "one_value"}),
        page="f_grpo.md", recipe=("method=f_grpo",),
        test="core/test_f_grpo.py::test_loss_and_gradient_against_the_equation",
    )  # fmt: skip
    yield Method(
        "frpo", "policy_loss", "frpo_verl.core.losses.frpo:frpo_loss_advantages",
        section=FrpoLossSettings, needs=frozenset({"old"}), obeys=_AGGREGATION | _CLIP, limits=_DUAL_CLIP, then="vanilla",
        page="frpo.md", recipe=("method=frpo_loss",),
        test="core/test_frpo.py::test_it_is_the_advantage_of_the_current_policy",
    )  # fmt: skip
    yield from _local_kl_rows()


METHODS: dict[tuple[str, str], Method] = {}


def add(method: Method) -> Method:
    """Add a row; where verl is running already it is registered there at once.

    Raises ValueError: the kind is unknown or the name is taken.
    """
    if method.kind not in KINDS:
        raise ValueError(f"kind={method.kind!r}: not one of {', '.join(KINDS)}")
    if (method.kind, method.name) in METHODS:
        raise ValueError(f"{method.kind} {method.name!r} stands in the table already")
    METHODS[method.kind, method.name] = method
    for listener in _listeners:
        listener(method)
    return method


_listeners: list[Callable[[Method], None]] = []


def on_add(listener: Callable[[Method], None]) -> None:
    """Call `listener` with every row that is added from now on."""
    _listeners.append(listener)


def of_kind(kind: str) -> dict[str, Method]:
    """The rows of one kind by name."""
    return {name: method for (k, name), method in METHODS.items() if k == kind}


def find(kind: str, name: object) -> Method | None:
    """The row, or None for a name that is not ours."""
    return METHODS.get((kind, str(name)))


def find_local_kl(typed: object) -> tuple[Method, float | None] | None:
    """(row, order) of a `kl_loss_type` or `kl_penalty` of ours; None for verl's own.

    `alpha:ORDER` carries its order behind a colon; a `+` at the end is verl's straight-through form: this value, and the
    gradient of `k2`, which is that of the reverse KL.

    Raises:
        ConfigError: an order that is missing, no number or outside its range; `+` behind another divergence's name.
    """
    name, _, order = str(typed).removesuffix("+").partition(":")
    method = find("local_kl", name)
    if method is None or (order and name != "alpha"):
        return None
    if str(typed).endswith("+") and name not in STRAIGHT_THROUGH:
        raise ConfigError(
            f"kl_loss_type={typed}: verl's + takes the reverse KL's gradient, whatever stands before it; "
            f"{str(typed)[:-1]} has its exact gradient without it"
        )
    if name != "alpha":
        return method, None
    try:
        number = float(order)
    except ValueError:
        number = None
    if number not in ranges.ALPHA:
        raise ConfigError(
            f"kl_loss_type={typed}: write the order of the alpha divergence behind it, {ranges.ALPHA}, as in alpha:0.5"
        )
    return method, number


for _method in _rows():
    add(_method)


def markdown(rows: Iterable[Method] | None = None) -> str:
    """The table of the docs: what is typed, what it needs, and its page; names of which the same is true share a row."""
    alike: dict[tuple[str, ...], list[Method]] = {}
    for method in METHODS.values() if rows is None else rows:
        by_default = method.section().needs - method.needs if method.section else ()
        facts = (
            KINDS[method.kind].rsplit(".", 1)[1],
            re.sub(rf"\b{method.name}\b", "NAME", " ".join(method.recipe)),
            f"`{method.section.KEY.removeprefix(ACTOR + '.')}`" if method.section else "",
            ", ".join(sorted(method.needs)),
            ", ".join(sorted(by_default)),
            ", ".join(f"`{k}`" for k in sorted(method.obeys | set(method.from_verl.values()))),
            f"[{method.page}]({method.page})",
        )
        alike.setdefault(facts, []).append(method)
    lines = [
        "| typed | with a recipe | settings | always needs | by default also | obeys | page |",
        "|---|---|---|---|---|---|---|",
    ]
    for (key, recipe, *cells), same in alike.items():
        alone = len(same) == 1
        typed = f"`{key}={same[0].name}`" if alone else f"`{key}=NAME`: {', '.join(f'`{m.name}`' for m in same)}"
        shown = " ".join(same[0].recipe) if alone else recipe
        lines.append(f"| {typed} | `{shown}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
