"""What the plugin costs in a process that only imports verl: seconds and resident MB on top of `import verl`.

python benchmarks/plugin_cost.py --rounds 7
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

CODE = (
    "import time, psutil; t = time.process_time(); import verl; "
    "print(time.process_time() - t, psutil.Process().memory_info().rss / 1e6)"
)


def measure(policy: str) -> tuple[float, float]:
    env = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": policy, "OMP_NUM_THREADS": "1"}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, env=env, check=True
    )
    seconds, megabytes = out.stdout.split()[-2:]
    return float(seconds), float(megabytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    measure("none"), measure("auto")  # warm the disk cache
    pairs = [(measure("none"), measure("auto")) for _ in range(rounds)]
    for i, unit in ((0, "s of processor time"), (1, "MB resident")):
        without = statistics.median(p[0][i] for p in pairs)
        extra = statistics.median(p[1][i] - p[0][i] for p in pairs)
        print(f"import verl {without:8.2f} {unit}; with the plugin {extra:+.3f}")


if __name__ == "__main__":
    main()
