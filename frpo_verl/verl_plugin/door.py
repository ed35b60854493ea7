"""Is the plugin where a command of ours needs it? Asked by Hydra's search path, before anything starts.

verl opens the door when it is imported; where it does not, the names are known in this process only, if at all, and the run
would die in a worker after its models are loaded.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

TYPED = re.compile(
    r"^\+*(recipe|method)=|adv_estimator=(frpo|f_hal|rpg_)|loss_mode=(frpo|f_grpo|rpg_|atr_grpo|divergence_clip)"
    r"|^\+*algorithm\.(frpo|f_hal)\b|policy_loss\.(rpg|clip|f_grpo|frpo)\."
)


def refuse_closed(loaded: bool, typed: Iterable[str]) -> None:
    """End a command that types names of ours for a verl that cannot or does not load the plugin.

    Args:
        loaded: whether importing verl has loaded the plugin.
        typed: the command's arguments; one without a name of ours is left alone.

    Raises:
        SystemExit: with one line that says what to do.
    """
    if "verl" not in sys.modules or not any(TYPED.search(word) for word in typed):
        return
    from .health import too_old

    line = too_old()
    if line is None and not loaded:
        line = (
            f"verl does not load the plugin (VERL_USE_EXTERNAL_PLUGINS={os.getenv('VERL_USE_EXTERNAL_PLUGINS', 'auto')}): "
            "unset that variable, or set VERL_USE_EXTERNAL_MODULES=frpo_verl"
        )
    if line is not None:
        raise SystemExit(f"frpo_verl: {line}")
