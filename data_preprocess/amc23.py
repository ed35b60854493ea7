"""AMC 2023 (math-ai/amc23): 40 problems of the AMC 12 with integer answers, for evaluation.

    python data_preprocess/amc23.py --local_save_dir ~/data/amc23

Copies that store the answers as floating-point numbers (27.0) give the same ground truth ("27").
"""

from _common import DataSet, parse_integer_row, run

DATASET = DataSet(
    name="amc23",
    data_source="amc23",
    hub="math-ai/amc23",
    splits={"test": "test"},
    parse=parse_integer_row,
)

if __name__ == "__main__":
    raise SystemExit(run(DATASET, doc=__doc__))
