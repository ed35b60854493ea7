"""`python -m frpo_verl data coverage`; --help lists the options."""

from _clone import run

run(__file__)
