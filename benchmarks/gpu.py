"""What one GPU of 24 GB or more can show without a network, in one command.

    make test-model                                  # once, with a network: the pretrained model below build/smollm2
    python benchmarks/gpu.py --minutes 10            # writes docs/results/gpu.md and gpu.json after every row
    python benchmarks/gpu.py --tiny                  # the same in miniature on a CPU, below build/gpu (minutes)

The sections run in order, each until its share of the minutes is over; what one leaves goes to the next. A row that is
there is kept, so that the command goes on where it was; a section that cannot run, or fails, says why. Seeds run one
after the other, every method of a seed before the next one.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import records
import torch
from gpu_sections import ROOT, SECTIONS, Place, Section
from records import machine

from frpo_verl.files import write_atomically


def run(
    sections: dict[str, Section], place: Place, minutes: float, result: dict, write: Callable[[dict], None],
    now: Callable[[], float] = time.monotonic,
) -> None:  # fmt: skip
    """Every section's jobs in order, as long as its time lasts; `result` holds what is there, `write` is called after each."""
    begin, share = now(), 0.0
    for name, section in sections.items():
        share += section.share
        found = result.setdefault(name, {"rows": {}})
        rows = found["rows"]
        found["note"] = note = section.missing(place) or ""
        jobs = [] if note else section.jobs(place)
        longest = 0.0
        for done, (row, job) in enumerate(jobs):
            if row in rows:
                continue
            started = now()
            if started + longest > begin + 60 * minutes * share:
                found["note"] = f"{done} of {len(jobs)} rows: the time was over"
                break
            print(f"{section.title}: {row}", flush=True)
            try:
                rows[row] = job()
            except Exception as error:  # whatever it is: the other sections run
                found["note"] = f"{row}: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
                break
            longest = max(longest, now() - started)
            rows[row]["seconds"] = round(now() - started, 1)
            write(result)
        write(result)
        jobs = job = None  # and the models that they hold
        torch.cuda.empty_cache()


def cell(value) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def means(rows: dict[str, dict]) -> dict[str, dict]:
    """Rows of one method as one, with the 95 % interval over its seeds."""
    groups: dict[str, list[dict]] = {}
    for name, row in rows.items():
        groups.setdefault(name.split(", seed")[0], []).append(row)
    found = {}
    for name, group in groups.items():
        columns = [c for c in group[0] if c != "seconds"]
        values = {c: [row[c] for row in group] for c in columns}
        found[name] = {c: records.shown(v) if len(v) > 1 else v[0] for c, v in values.items()}
        found[name]["seeds"] = "" if name in rows else str(len(group))
    return found


def page(sections: dict[str, Section], result: dict) -> str:
    """The markdown page: a table for each section, and why there is none."""
    facts = ", ".join(f"{k} {v}" for k, v in result.get("machine", {}).items())
    lines = ["# On one GPU", "", f"Written by `python benchmarks/gpu.py`. {facts}".strip()]
    for name, section in sections.items():
        if name not in result:
            continue
        found = result[name]
        lines += ["", f"## {section.title}", ""]
        if found["note"]:
            lines += [f"{found['note']}.", ""] if found["rows"] else [f"{found['note']}."]
        rows = means(found["rows"]) if section.by_seed else found["rows"]
        columns = sorted(dict.fromkeys(c for row in rows.values() for c in row), key=lambda c: c == "seconds")
        if rows:
            lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
            lines += [f"| {row} | {' | '.join(cell(found.get(c)) for c in columns)} |" for row, found in rows.items()]
    pending = [section.title for name, section in sections.items() if name not in result]
    lines += ["", f"Not run yet: {'; '.join(pending)}."] if pending else []
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="default: 10, with --tiny all that it takes")
    parser.add_argument("--tiny", action="store_true", help="in miniature, on a CPU")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=None, help="folder of gpu.md and gpu.json")
    args = parser.parse_args()
    if not (args.tiny or torch.cuda.is_available()):
        parser.error("no GPU here; --tiny runs it in miniature on a CPU")
    device = "cpu" if args.tiny else "cuda"
    out = args.out or (Path("build/gpu") if args.tiny else ROOT / "docs/results")
    gpu = {} if args.tiny else {"GPU": torch.cuda.get_device_name(), "memory, GB": torch.cuda.mem_get_info()[1] >> 30}
    facts = {"size": "miniature" if args.tiny else "whole", **gpu, **machine()}
    file = out / "gpu.json"
    result = records.read(file)
    if result.get("machine", {}) != facts:
        result = {"machine": facts}

    def write(result: dict) -> None:
        records.write(file, result)
        write_atomically(out / "gpu.md", page(SECTIONS, result))

    chosen = {name: section for name, section in SECTIONS.items() if name in args.only}
    minutes = args.minutes or (math.inf if args.tiny else 10)
    run(chosen, Place(device, args.tiny, Path("build/gpu/work")), minutes, result, write)
    print(page(SECTIONS, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
