"""`python -m frpo_verl data arithmetic`; --help lists the options."""

from _clone import run

run(__file__)
