"""MATH500 (HuggingFaceH4/MATH-500): 500 problems of MATH's test split, for evaluation.

python data_preprocess/math500.py --local_save_dir ~/data/math500
"""

from _common import DataSet, run

DATASET = DataSet(
    name="math500",
    data_source="HuggingFaceH4/MATH-500",
    hub="HuggingFaceH4/MATH-500",
    splits={"test": "test"},
)

if __name__ == "__main__":
    raise SystemExit(run(DATASET, doc=__doc__))
