"""`python -m frpo_verl data three_ways`; --help lists the options."""

from _clone import run

run(__file__)
