"""`python -m frpo_verl check package.module:NAME`: is a divergence of one's own what it says?"""

from __future__ import annotations

import argparse
import os
import sys

from .methods import names


def main(argv: list[str] | None = None) -> int:
    """Prove a divergence by enumeration; exit status 1 when something does not fit, 2 when it cannot be loaded."""
    parser = argparse.ArgumentParser(prog="python -m frpo_verl check", description=main.__doc__)
    parser.add_argument(
        "divergence", help=f"package.module:NAME, or a row of the table: {', '.join(names.DIVERGENCES)}"
    )
    parser.add_argument("--alpha", type=float, help="the order of row alpha")
    arguments = parser.parse_args(argv)
    sys.path.insert(0, os.getcwd())  # as `python -m verl.trainer.main_ppo` finds modules

    from .core.proof import check_divergence
    from .custom import load_divergence

    try:
        divergence = load_divergence(arguments.divergence, arguments.alpha)
    except ValueError as error:
        print(f"frpo_verl check: {error}", file=sys.stderr)
        return 2
    findings = check_divergence(divergence)
    for finding in findings:
        print(f"{'ok    ' if finding.ok else 'WRONG '} {finding.name}: {finding.text}")
    wrong = sum(not finding.ok for finding in findings)
    print(f"{divergence.name}: {'all good' if not wrong else f'{wrong} of {len(findings)} do not hold'}")
    return 1 if wrong else 0
