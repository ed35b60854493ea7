"""verl's engines beside each other on a CPU. `launch.py` is imported as part of this package by tests and
benchmarks; the processes that it starts have the folder itself on their path."""
