"""Hydra configurations: `recipe/` (paper, model, data), `method/` (what a method changes in verl's defaults), `layout/`
(engine and parallelism) and `check/` (a shortened run of any recipe)."""
