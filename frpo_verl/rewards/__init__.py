"""Reward functions for verl; importing this package imports neither torch, verl nor sympy."""
