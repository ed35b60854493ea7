"""`python -m frpo_verl data aime24`; --help lists the options."""

from _clone import run

run(__file__)
