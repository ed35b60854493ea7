r"""Reward functions for verl; importing this package imports neither torch, verl nor sympy.

How an answer travels, from the text of a response to its verdict (math.py):

    found      extract.py, phrase.py     the last mark, without the sentence around it
    read       spelling.py, reading.py   in one spelling, as one of the six types of values.py;
               words.py, exact.py        numbers exactly, with their unit
               units.py
    compared   compare.py, rules.py      by a table of types, without algebra: True, False or None
    refused    guard.py                  where None is left: what would only burn time
    worked out pool.py, worker.py        in a process that is killed at a deadline, by the same comparison with algebra
               symbolic.py               (math-verify, sympy) behind it
"""
