r"""MATH (Hendrycks et al., arXiv 2103.03874; hub copy DigitalLearningGmbH/MATH-lighteval): 7,500 + 5,000
problems.

    python data_preprocess/math_dataset.py --local_save_dir ~/data/math

The ground truth is the last `\boxed{}` of the worked solution. The test split contains the 500 problems of
MATH500. (The script is not called math.py because a script's folder comes first on Python's path, before the
module `math`.)
"""

from _common import DataSet, run

DATASET = DataSet(
    name="math",
    data_source="DigitalLearningGmbH/MATH-lighteval",
    hub="DigitalLearningGmbH/MATH-lighteval",
    splits={"train": "train", "test": "test"},
)

if __name__ == "__main__":
    raise SystemExit(run(DATASET, doc=__doc__))
