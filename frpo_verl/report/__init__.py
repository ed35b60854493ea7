"""What a finished (or running) training run shows: a table, a picture and a report.json."""
