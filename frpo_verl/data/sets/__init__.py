"""One module a data set: its `DATASET` and a `main(argv)` that returns the exit code."""
