"""`python -m frpo_verl data amc23`; --help lists the options."""

from _clone import run

run(__file__)
