"""`python -m frpo_verl data open_rs`; --help lists the options."""

from _clone import run

run(__file__)
