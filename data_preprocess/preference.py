"""`python -m frpo_verl data preference`; --help lists the options."""

from _clone import run

run(__file__)
