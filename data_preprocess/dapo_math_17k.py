"""`python -m frpo_verl data dapo_math_17k`; --help lists the options."""

from _clone import run

run(__file__)
