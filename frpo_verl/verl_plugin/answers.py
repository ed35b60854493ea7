"""A few answers of a step with each token's log-ratio to the reference, for the report; for runs that set `answers_dir`."""

from __future__ import annotations

import torch

from ..report import answers as files
from .batch import Batch
from .hooks import say
from .root_keys import number

FOLDER_KEY, NUMBER_KEY = "answers_dir", "answers_number"


def due(view: Batch, step: int) -> bool:
    """The first and the last step, and those after which verl validates."""
    every, last = int(view.run.get("trainer.test_freq", -1)), view.source.last_step if view.source else None
    return step == 1 or step == last or (every > 0 and step % every == 0)


@torch.no_grad()
def write(view: Batch) -> None:
    """Write the best and the worst answers of a batch that carries a reference; a full disk is said and does not stop the run.

    Left out in silence: trainers that hand over no step, tokenizer or responses, and steps that are not due.
    """
    folder, source = view.run.get(FOLDER_KEY), view.source
    if folder is None or source is None or source.step is None or source.tokenizer is None:
        return
    old, ref, scores = (view.optional(name) for name in ("old_log_probs", "ref_log_prob", "token_level_scores"))
    if old is None or ref is None or scores is None or not due(view, source.step):
        return
    ids = view.optional("responses", fetch=True)
    if ids is None:
        return
    mask, log_ratio, decode = view.mask.bool(), old - ref, source.tokenizer.decode
    values = torch.where(mask.any(dim=-1), scores.sum(dim=-1).float(), torch.nan)  # pad rows are no answers
    uids = view.data.non_tensor_batch.get("uid")
    wanted = int(number(view.run, NUMBER_KEY))
    chosen = files.choose(values.tolist(), wanted, None if uids is None else list(uids))
    prompts = source.padded("prompts") if chosen else None
    found = [
        files.Answer(
            step=int(source.step),
            uid="" if uids is None else str(uids[row]),
            score=float(values[row]),
            tokens=files.token_texts(decode, ids[row][mask[row]].tolist()),
            log_ratio=log_ratio[row][mask[row]].tolist(),
            prompt="" if prompts is None else decode(prompts[row].tolist(), skip_special_tokens=True),
        )
        for row in chosen
    ]
    try:
        files.write_answers(folder, source.step, found)
    except OSError as error:
        say(f"{FOLDER_KEY}={folder}: {error}; the run goes on without")
