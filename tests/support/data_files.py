"""What tests of data sets share: run a script, write and read files, verl's own data set over them."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from frpo_verl.data import cli


def main(name, *argv):
    return cli.main([name, *map(str, argv)])


def refused(capsys, name, *argv):
    """The line of error that a command ends with."""
    capsys.readouterr()
    assert main(name, *argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(path):
    return pq.read_table(path).to_pylist()


def card_of(path):
    return json.loads(Path(path).with_suffix(".card.json").read_text())


def math_rows(n=20):
    return [
        {"problem": f"What is {i} + {i}?", "solution": rf"It is \boxed{{{2 * i}}}.", "level": "1"} for i in range(n)
    ]


def made(folder, name, rows, *argv, split="train"):
    """(rows, card) of the file that a set's command makes of rows as they are published."""
    source = write_jsonl(folder / "in" / f"{split}.jsonl", rows)
    assert main(name, "--local_dataset_path", source.parent, "--local_save_dir", folder / "o", *argv) == 0
    file = folder / "o" / f"{split}.parquet"
    return rows_of(file), card_of(file)


class CharacterTokenizer:
    """A chat template in characters: enough for RLHFDataset's length filter."""

    def apply_chat_template(self, messages, add_generation_prompt=True, tokenize=True, **kwargs):
        return [ord(c) for m in messages for c in f"{m['role']}\n{m['content']}\n"]


def rlhf_dataset(files, tmp_path, monkeypatch, **config):
    import datasets
    from omegaconf import OmegaConf
    from verl.utils.dataset.rl_dataset import RLHFDataset

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    settings = {"cache_dir": str(tmp_path / "verl"), "filter_overlong_prompts_workers": None, **config}
    return RLHFDataset([str(f) for f in files], CharacterTokenizer(), OmegaConf.create(settings))
