"""AIME 2024 (HuggingFaceH4/aime_2024): 30 problems, integer answers from 0 to 999, for evaluation.

    python data_preprocess/aime24.py --local_save_dir ~/data/aime24

Leading zeros of the answers ("025") are removed.
"""

from _common import DataSet, parse_integer_row, run

DATASET = DataSet(
    name="aime24",
    data_source="aime24",
    hub="HuggingFaceH4/aime_2024",
    splits={"test": "train"},
    parse=parse_integer_row,
)

if __name__ == "__main__":
    raise SystemExit(run(DATASET, doc=__doc__))
