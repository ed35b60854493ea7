"""Time of each token-level loss, forward + backward, against verl's `vanilla`, interleaved in one run.

    python benchmarks/loss_speed.py                          # 64 x 2048 float32, cuda if there is one
    python benchmarks/loss_speed.py --rows 8 --columns 512 --rounds 5

Each round runs every loss once, so that a busy machine slows all alike; the table shows the median of the
rounds and the median of the per-round ratios to vanilla. All of them include their metrics and verl's
token-mean sum.
"""

import statistics
import time

import records
import torch


def tensors(rows: int, columns: int, device: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(rows, columns, generator=generator) * 3
    log_prob = old + 0.2 * torch.randn(rows, columns, generator=generator)
    ref = old + 0.2 * torch.randn(rows, columns, generator=generator)
    advantages = torch.randn(rows, 1, generator=generator).expand(rows, columns).contiguous()
    lengths = torch.randint(columns // 4, columns + 1, (rows, 1), generator=generator)
    mask = torch.arange(columns)[None] < lengths
    out = dict(log_prob=log_prob, old=old, ref=ref, advantages=advantages, mask=mask)
    return {k: v.to(device) for k, v in out.items()}


def losses():
    """name -> function of the tensors that returns (scalar loss, metrics)."""
    from verl.trainer.ppo.core_algos import agg_loss, compute_policy_loss_vanilla
    from verl.workers.config import ActorConfig

    from frpo_verl.core.losses.clipping import divergence_clip_loss
    from frpo_verl.core.losses.kl_terms import local_kl
    from frpo_verl.core.losses.rpg import rpg_loss
    from frpo_verl.core.losses.terms import read_loss_inputs

    config = ActorConfig(strategy="fsdp", rollout_n=1, ppo_mini_batch_size=1, ppo_micro_batch_size_per_gpu=1)

    def vanilla(x):
        return compute_policy_loss_vanilla(x["old"], x["log_prob"], x["advantages"], x["mask"], "token-mean", config)

    def ours(function, **kwargs):
        reference = kwargs.get("reference") == "ref"

        def run(x):
            given = {
                "log_prob": x["log_prob"],
                "old_log_prob": x["old"],
                "advantages": x["advantages"],
                "mask": x["mask"],
            }
            terms = function(read_loss_inputs(**given, ref_log_prob=x["ref"] if reference else None), **kwargs)
            loss = agg_loss(terms.token_loss, x["mask"], "token-mean")
            return loss, {k: v.item() for k, v in terms.metrics.items()}

        return run

    def kl_term(name):
        def run(x):
            old = x["old"] if name == "k3_is" else None
            return agg_loss(local_kl(x["log_prob"], x["ref"], name, old_log_prob=old), x["mask"], "token-mean"), {}

        return run

    table = {"vanilla (verl)": vanilla}
    table |= {f"divergence_clip {m}": ours(divergence_clip_loss, measure=m, delta=0.0231) for m in ("ratio", "kl3")}
    for reinforce, prefix in ((False, "rpg"), (True, "rpg_rf")):
        for variant in ("fkl", "ufkl", "rkl", "urkl"):
            table[f"{prefix}_{variant}"] = ours(rpg_loss, variant=variant, reinforce=reinforce)
            table[f"{prefix}_{variant} reference=ref"] = ours(
                rpg_loss, variant=variant, reinforce=reinforce, reference="ref"
            )
    table |= {f"local KL {name} (a term, not a loss)": kl_term(name) for name in ("reverse_kl", "js", "k3_is")}
    return table


def measure(rows: int, columns: int, rounds: int) -> dict[str, dict[str, float]]:
    """loss -> median milliseconds, and the median ratio to vanilla of a round."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    x = tensors(rows, columns, device)
    x["log_prob"].requires_grad_()
    table = losses()
    seconds = {name: [] for name in table}
    for round_ in range(rounds + 3):
        for name, function in table.items():
            x["log_prob"].grad = None
            synchronize()
            start = time.perf_counter()
            function(x)[0].backward()
            synchronize()
            if round_ >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - start)
    base = seconds["vanilla (verl)"]
    return {
        name: {"ms": 1e3 * statistics.median(times),
               "ratio": statistics.median(t / b for t, b in zip(times, base, strict=True))}
        for name, times in seconds.items()
    }  # fmt: skip


def main() -> None:
    parser = records.parser(__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{args.rows} x {args.columns} float32, {device}, {torch.get_num_threads()} threads, {args.rounds} rounds\n")
    found = measure(args.rows, args.columns, args.rounds)
    print(
        records.table(
            ["loss", "ms", "ratio"], ([name, f"{r['ms']:.2f}", f"{r['ratio']:.2f}"] for name, r in found.items())
        )
    )


if __name__ == "__main__":
    main()
