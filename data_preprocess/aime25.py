"""AIME 2025 (math-ai/aime25): 30 problems, integer answers from 0 to 999, for evaluation.

    python data_preprocess/aime25.py --local_save_dir ~/data/aime25

Leading zeros of the answers ("025") are removed.
"""

from _common import DataSet, parse_integer_row, run

DATASET = DataSet(
    name="aime25",
    data_source="aime25",
    hub="math-ai/aime25",
    splits={"test": "test"},
    parse=parse_integer_row,
)

if __name__ == "__main__":
    raise SystemExit(run(DATASET, doc=__doc__))
