"""`python -m frpo_verl data math_dataset`; --help lists the options."""

from _clone import run

run(__file__)
