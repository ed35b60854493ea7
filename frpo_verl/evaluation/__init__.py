"""Evaluation: unbiased pass@k, maj@k and their uncertainty, from graded samples.

from frpo_verl.evaluation import read_records, summarize
summarize(read_records("validation/100.jsonl"), ks=[1, 16])
"""

from .dumps import DumpError, Record, Sources, read_records
from .pass_at_k import bootstrap_pass_at_k, bootstrap_score, confidence_interval, maj_at_k, pass_at_k
from .summary import default_ks, summarize

__all__ = [
    "DumpError",
    "Record",
    "Sources",
    "bootstrap_pass_at_k",
    "bootstrap_score",
    "confidence_interval",
    "default_ks",
    "maj_at_k",
    "pass_at_k",
    "read_records",
    "summarize",
]
