"""The agent loop `recorded_response`: replays a recorded answer instead of generating one.

A row whose `agent_name` is `recorded_response` carries two answers in `extra_info`: `chosen` and `rejected`. Sessions with
an even number replay the chosen one, odd ones the rejected one, so that verl's workers compute old and reference
log-probs for both like for any other row. Used by f-HAL (arXiv 2602.05946).
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput

NAME = "recorded_response"


class RecordedResponse(AgentLoopBase):
    """Answers with what was recorded; log-probs of a rollout engine do not exist and are given as 0."""

    async def run(self, sampling_params: dict[str, Any], **kwargs) -> AgentLoopOutput:
        sign = 1 if int(kwargs["session_id"]) % 2 == 0 else -1
        text = (kwargs.get("extra_info") or {}).get("chosen" if sign > 0 else "rejected")
        if not text:
            raise ValueError(
                f"a row with agent_name={NAME} needs extra_info.chosen and extra_info.rejected; write such rows with "
                "`python -m frpo_verl data preference`"
            )
        prompt_ids = await self.ct_build_initial_tokens(list(kwargs["raw_prompt"]))
        if self.tokenizer.eos_token_id is None:
            raise ValueError("recorded answers end with the tokenizer's end-of-text token and this tokenizer has none")
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        if not ids or ids[-1] != self.tokenizer.eos_token_id:
            ids = [*ids, self.tokenizer.eos_token_id]
        limit = self.rollout_config.response_length
        if len(ids) > limit:
            raise ValueError(
                f"a recorded answer has {len(ids)} tokens, more than data.max_response_length={limit}: raise it, or "
                "drop such rows with `python -m frpo_verl data preference` --tokenizer MODEL --max_tokens N"
            )
        step = kwargs.get("global_steps", 0)
        return AgentLoopOutput(
            prompt_ids=prompt_ids,
            response_ids=ids,
            response_mask=[1] * len(ids),
            response_logprobs=[0.0] * len(ids) if self.rollout_config.calculate_log_probs else None,
            num_turns=2,
            metrics={"generate_sequences": 0.0, "num_preempted": -1},
            extra_fields={
                "preference": sign,
                "turn_scores": [],
                "tool_rewards": [],
                "global_steps": step,
                "min_global_steps": step,
                "max_global_steps": step,
            },
        )
