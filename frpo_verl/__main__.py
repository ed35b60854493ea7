"""`python -m frpo_verl doctor | paths | data NAME | twin RECIPE | check MODULE:NAME | report RUN... | passk FILE...`"""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "doctor": (
        "frpo_verl.verl_plugin.doctor",
        "check that verl knows the plugin: versions, names, every touched function",
    ),
    "paths": ("frpo_verl.verl_plugin.paths", "where the recipes and the reward function are, as one types them"),
    "check": (
        "frpo_verl.check",
        "prove a divergence of your own: its three functions, its expected gradient, its range",
    ),
    "data": ("frpo_verl.data.cli", "a data set as parquet files for verl: data gsm8k --local_save_dir build/gsm8k"),
    "twin": (
        "frpo_verl.twin",
        "a recipe on a CPU: the command, small data, and what is not kept: twin NAME method=...",
    ),
    "report": ("frpo_verl.report.cli", "a table and a picture of one run, or of several beside each other"),
    "passk": ("frpo_verl.evaluation.cli", "mean@k, pass@k and maj@k from validation dumps or jsonl"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m frpo_verl COMMAND [arguments]\n")
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:8s} {text}")
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        from .methods.names import nearest

        print(
            f"frpo_verl: no command {argv[0]!r}{nearest(argv[0], COMMANDS)}; known: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    return importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
