"""`python -m frpo_verl data math500`; --help lists the options."""

from _clone import run

run(__file__)
