r"""Minerva Math (math-ai/minervamath; arXiv 2206.14858): 272 undergraduate problems with short answers, for
evaluation.

    python data_preprocess/minerva_math.py --local_save_dir ~/data/minerva_math

Copies with a worked `solution` and no `answer` are read through the last `\boxed{}`.
"""

from _common import DataSet, run

DATASET = DataSet(
    name="minerva_math",
    data_source="minerva_math",
    hub="math-ai/minervamath",
    splits={"test": "test"},
)

if __name__ == "__main__":
    raise SystemExit(run(DATASET, doc=__doc__))
