"""Hydra configurations: `recipe/` (method + model + data) and `method/` (what a method changes in verl's defaults)."""
