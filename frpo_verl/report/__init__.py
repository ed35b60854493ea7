"""What a finished (or running) training run shows: a page, a picture, report.json and a table.

from frpo_verl.report import write_report
write_report("runs/quickstart")
"""

from .build import write_report

__all__ = ["write_report"]
