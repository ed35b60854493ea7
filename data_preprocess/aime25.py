"""`python -m frpo_verl data aime25`; --help lists the options."""

from _clone import run

run(__file__)
