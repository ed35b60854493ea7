"""`python -m frpo_verl data limr`; --help lists the options."""

from _clone import run

run(__file__)
