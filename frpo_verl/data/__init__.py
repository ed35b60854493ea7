"""Data sets as parquet files that verl reads: `python -m frpo_verl data NAME`."""
