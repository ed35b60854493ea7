"""Preference pairs (prompt, chosen, rejected) as parquet for verl, alone or mixed with a math set, for f-HAL.

    python -m frpo_verl data preference --local_dataset_path pairs.jsonl --local_save_dir ~/data/pairs \\
        --mix ~/data/gsm8k/train.parquet --ratio 0.25 --tokenizer MODEL --max_tokens 1024
    python -m frpo_verl data preference --hub_name OWNER/SET --split train --local_save_dir ~/data/pairs

A row of a pair has agent_name=recorded_response and its two answers in extra_info.chosen and extra_info.rejected; a row
of the math set has agent_name=single_turn_agent. Read are `prompt` (text or chat), `chosen` and `rejected` (text, or a
chat whose last assistant message is the answer); without `prompt` the messages before both answers are taken. Broken
pairs are counted and skipped. Written is one file, train.parquet.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..arguments import number, positive_int
from .command import PATH_OPTIONS, OneLineParser, add_output_options, counted, finish
from .examples import DataSet, InputError, Skip
from .pairs import CHOSEN_FIELDS, PROMPT_FIELDS, REJECTED_FIELDS, Pair, read_pair
from .selection import Selection, draw, parsed_rows, refuse_surrogates
from .sources import RowSource, open_source, read_file
from .writing import EXTRA_INFO, SCHEMA, File, make_row, sha256

RECORDED, GENERATED = "recorded_response", "single_turn_agent"  # agent loops: frpo_verl's, verl's
DATA_SOURCE = "preference"
PAIR_EXTRA_INFO = pa.struct([*EXTRA_INFO, ("chosen", pa.string()), ("rejected", pa.string())])
PAIR_SCHEMA = pa.schema(
    [*list(SCHEMA)[:-1], pa.field("agent_name", pa.string()), pa.field("extra_info", PAIR_EXTRA_INFO)]
)


def length_of(name: str) -> Callable[[str], int]:
    """Tokens of a recorded answer as the agent loop counts them: end-of-text included."""
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # missing package, folder, network, access: one line all the same
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--tokenizer {name}: cannot load it ({type(error).__name__}: {reason})") from None
    end = tokenizer.eos_token_id
    if end is None:
        raise InputError(f"--tokenizer {name}: it has no end-of-text token, which closes a recorded answer")

    def length(answer: str) -> int:
        ids = tokenizer.encode(answer, add_special_tokens=False)
        return len(ids) + (not ids or ids[-1] != end)

    return length


def select_pairs(source: RowSource, options: argparse.Namespace) -> tuple[list[Pair], Selection]:
    """(usable pairs, the count of rows read and of every skipped one under its reason)."""
    length = length_of(options.tokenizer) if options.tokenizer else None
    seen: set[tuple] = set()

    def parse(row: Mapping[str, Any], index: int) -> Pair:
        pair = read_pair(row, index)
        asked = "\n".join(content for _, content in pair.prompt)
        refuse_surrogates(f"row {index}", {**pair._asdict(), "prompt": asked})
        key = (pair.prompt, pair.chosen, pair.rejected)
        if key in seen:
            raise Skip("duplicate")
        seen.add(key)
        if length is not None and max(length(pair.chosen), length(pair.rejected)) > options.max_tokens:
            raise Skip("overlong")
        return pair

    result = Selection()
    pairs = [pair for _, pair in parsed_rows(source, "preference", parse, result)]
    if not pairs:
        raise InputError(
            f"none of {result.rows_in} rows can be used ({result.why()}); looked for the fields {'/'.join(PROMPT_FIELDS)}, "
            f"{'/'.join(CHOSEN_FIELDS)} and {'/'.join(REJECTED_FIELDS)}"
        )
    return draw(pairs, options.max_rows, options.seed, result.dropped), result


def pair_row(pair: Pair, prompt_suffix: str, system_prompt: str | None) -> dict[str, Any]:
    """The row that agent loop `recorded_response` replays; its empty ground truth scores 0."""
    *before, (_, question) = pair.prompt
    row = make_row(
        data_source=DATA_SOURCE, question=question, ground_truth="", split="train", index=pair.row,
        id=pair.id or f"{DATA_SOURCE}/train/{pair.row}", chosen=pair.chosen, rejected=pair.rejected,
        prompt_suffix=prompt_suffix, system_prompt=None if pair.prompt[0][0] == "system" else system_prompt,
    )  # fmt: skip
    *system, asked = row["prompt"]
    prompt = [*system, *({"role": role, "content": content} for role, content in before), asked]
    return row | {"prompt": prompt, "ability": "preference", "agent_name": RECORDED}


# ---- mixing


def columns(schema: pa.Schema) -> list[str]:
    """The names of the columns, then those of the fields of structs: "reward_model.style"."""
    nested = [
        f"{column.name}.{field.name}" for column in schema if pa.types.is_struct(column.type) for field in column.type
    ]
    return [*schema.names, *nested]


def read_mix(name: str) -> list[dict[str, Any]]:
    """The rows of a parquet file that `python -m frpo_verl data NAME` (or verl's script) wrote, with the columns of PAIR_SCHEMA."""
    path = Path(name).expanduser()
    if path.suffix != ".parquet" or not path.is_file():
        raise InputError(f"--mix {name}: not a parquet file; write one with `python -m frpo_verl data NAME`")
    rows = list(read_file(path))
    lost = [column for column in columns(pq.read_schema(path)) if column not in columns(PAIR_SCHEMA)]
    if lost:
        raise InputError(
            f"--mix {name}: column {lost[0]} would be lost: remove it, or write the file with "
            "`python -m frpo_verl data NAME`"
        )
    for place, row in enumerate(rows):
        if not row.get("prompt") or not row.get("data_source"):
            raise InputError(f"--mix {name}, row {place}: no prompt or no data_source: it is not a file for verl")
        if row.get("agent_name") == RECORDED:
            raise InputError(f"--mix {name}, row {place}: a recorded pair already; give the math set alone")
        row["agent_name"] = row.get("agent_name") or GENERATED
        row["extra_info"] = {**(row.get("extra_info") or {}), "chosen": "", "rejected": ""}
        if row["extra_info"].get("index") is None:
            row["extra_info"]["index"] = place
    return rows


def shares(n_pairs: int, n_others: int, ratio: Fraction) -> tuple[int, int]:
    """How many of each give `ratio` pairs in as many rows as there are: one of the two is used whole, or nearly."""
    if ratio == 1:
        return n_pairs, 0
    pairs = min(n_pairs, int(n_others * ratio / (1 - ratio)))
    return pairs, round(pairs * (1 - ratio) / ratio)


def interleave(pairs: list, others: list) -> Iterator:
    """All of both in their order, evenly: any B rows in a row hold B * share pairs, rounded down or up."""
    total = len(pairs) + len(others)
    left, right = iter(pairs), iter(others)
    for i in range(total):
        yield next(left if (i + 1) * len(pairs) // total > i * len(pairs) // total else right)


# ---- command line


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser("preference", __doc__)
    parser.option("local_dataset_path", default=None, help="a jsonl, json, parquet or arrow file, or a folder")
    parser.option("hub_name", default=None, help="or a data set on the hub, OWNER/NAME")
    parser.option("hub_config", default=None, help="its configuration; default: none")
    parser.option("split", default="train", help="the split to read (default: %(default)s)")
    add_output_options(parser, f"~/data/{DATA_SOURCE}")
    parser.set_defaults(prompt_suffix="")
    parser.option("seed", type=int, default=None, help="draws --max_rows, shuffles --mix (0 where not given)")
    parser.option("mix", default=None, help="a parquet file of problems to answer on-policy; needs --ratio")
    share = number(Fraction, lambda ratio: 0 < ratio <= 1, "a number above 0 and up to 1, the share of pairs")
    parser.option("ratio", type=share, default=None, help="share of pairs in the output, above 0, up to 1")
    parser.option("tokenizer", default=None, help="a model or folder; skips answers above --max_tokens")
    parser.option("max_tokens", type=positive_int, default=None, help="the run's data.max_response_length")
    options = parser.parse_args(argv)
    if (options.local_dataset_path is None) == (options.hub_name is None):
        parser.error("give one of --local_dataset_path and --hub_name")
    for first, second in (("mix", "ratio"), ("tokenizer", "max_tokens")):
        if (getattr(options, first) is None) != (getattr(options, second) is None):
            parser.error(f"--{first} and --{second} need each other: give both or neither")
    if options.hub_config is not None and options.hub_name is None:
        parser.error("--hub_config is only used with --hub_name")
    if options.seed is not None and options.mix is None and options.max_rows is None:
        parser.error("--seed is only used to draw --max_rows pairs or to shuffle with --mix")
    return options


def prepare(options: argparse.Namespace, folder: Path) -> list[File]:
    """The rows to write and their card; raises InputError before anything is written."""
    splits = {options.split: options.split}
    wanted = DataSet(DATA_SOURCE, DATA_SOURCE, options.hub_name or "", splits, hub_config=options.hub_config)
    source = open_source(wanted, options.local_dataset_path, options.split)[options.split]
    others = read_mix(options.mix) if options.mix is not None else []
    pairs, result = select_pairs(source, options)
    mixed = None
    if options.mix is not None:
        n_pairs, n_others = shares(len(pairs), len(others), options.ratio)
        if not n_pairs or (options.ratio < 1 and not n_others):
            raise InputError(
                f"--ratio {float(options.ratio):g}: cannot be had from {len(pairs)} pairs and {len(others)} rows of "
                f"--mix {options.mix}; choose another ratio or give more rows"
            )
        rng = random.Random(options.seed or 0)
        if n_pairs < len(pairs):
            result.dropped["not_selected"] += len(pairs) - n_pairs
        pairs = rng.sample(pairs, n_pairs)
        mixed = {
            "name": Path(options.mix).name, "sha256": sha256(Path(options.mix).expanduser()),
            "rows_in": len(others), "rows_used": n_others,
        }  # fmt: skip
        others = rng.sample(others, n_others)
    elsewhere = {*PATH_OPTIONS, "mix", "hub_name", "hub_config"}
    settings = {name: value for name, value in vars(options).items() if name not in elsewhere}
    settings["ratio"] = None if options.ratio is None else float(options.ratio)
    if options.tokenizer is not None and Path(options.tokenizer).is_dir():
        settings["tokenizer"] = Path(options.tokenizer).name
    card = {
        "dataset": DATA_SOURCE, "data_source": DATA_SOURCE, "split": options.split, "source": source.description,
        "options": settings, "rows_in": result.rows_in, "dropped": dict(sorted(result.dropped.items())),
        "pairs": len(pairs), "mix": mixed, "share_of_pairs": len(pairs) / (len(pairs) + len(others)),
    }  # fmt: skip
    rows = [pair_row(p, options.prompt_suffix, options.system_prompt) for p in pairs]
    return [(interleave(rows, others), folder / "train.parquet", card)]


def report(card: Mapping[str, Any], path: Path) -> str:
    line, mix = f"{path}: {', '.join(counted(card))}, {card['pairs']} pairs", card["mix"]
    if mix is None:
        return line
    return (
        f"{line}; with {mix['rows_used']} of {mix['rows_in']} rows of {mix['name']} {card['rows_out']} rows out, "
        f"{card['share_of_pairs']:.4g} of them pairs"
    )


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet file; returns the exit code."""
    options = parse_args(argv)
    return finish(DATA_SOURCE, options, partial(prepare, options), report, PAIR_SCHEMA)
