"""`python -m frpo_verl data olympiad_bench`; --help lists the options."""

from _clone import run

run(__file__)
