"""`python -m frpo_verl data numina_math_cot`; --help lists the options."""

from _clone import run

run(__file__)
