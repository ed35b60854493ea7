"""The mathematics: tensors and numbers in, tensors and numbers out; no verl, no configuration.

The door cleans, the rooms trust: `tokens.read_answers` and `losses.terms.read_loss_inputs` check, upcast and mask what
comes from outside, once; the equations behind them look like the papers'.
"""
