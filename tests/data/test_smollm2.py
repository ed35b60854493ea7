"""Rows for a pretrained model (tests/support/smollm2.py): right, apart, and in GSM8K's published form."""

import pytest
import smollm2
from data_files import main, rows_of

from frpo_verl.rewards.math import compute_score


@pytest.mark.parametrize("name", ["sums", "gsm8k"])
def test_rows_are_right_and_test_problems_apart(tmp_path, name):
    if name == "sums":
        smollm2.write_sums(tmp_path / name)
    else:
        stories = smollm2.write_stories(tmp_path / "raw")
        assert main("gsm8k", "--local_dataset_path", stories, "--local_save_dir", tmp_path / name) == 0
    asked = {}
    for split in ("train", "test"):
        for row in rows_of(tmp_path / name / f"{split}.parquet"):
            asked.setdefault(split, set()).add(row["prompt"][-1]["content"])
            right = row["reward_model"]["ground_truth"]
            words = (row["data_source"], f"It is {right}", right, row["extra_info"])
            assert compute_score(*words, last_number_sources=[row["data_source"]])["acc"] == 1
    assert not asked["train"] & asked["test"] and len(asked["train"]) >= 24 and len(asked["test"]) >= 20
