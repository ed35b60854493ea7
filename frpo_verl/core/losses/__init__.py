"""Policy losses: `LossInputs` in, unreduced losses and metrics out."""
