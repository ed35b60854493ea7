"""`python -m frpo_verl data minerva_math`; --help lists the options."""

from _clone import run

run(__file__)
