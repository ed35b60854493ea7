"""`python -m frpo_verl data gsm8k`; --help lists the options."""

from _clone import run

run(__file__)
