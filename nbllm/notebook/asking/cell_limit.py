"""How long the answer of a cell may become where nobody says it.

A small model may not find the end of its answer, and a cell that never ends holds up the notebook.
Python's own calls have no such limit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import FinishReason, GenerationResult

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["limit_answer"]

_HOSTED_FACTOR = 4
"""For models behind an API: they find the end, and what they reason counts as written."""


async def limit_answer(
    session: NotebookSession, question: Question, model: ModelInterface
) -> Question:
    """Bound the answer, unless flags, settings or the model's config do, or reasoning is wanted."""
    asked = model.info.options.merged(question.options)
    limit = session.settings.cell_limit * (1 if model.info.local else _HOSTED_FACTOR)
    reasons = asked.reasoning_effort not in (None, "none")
    if not limit or asked.max_tokens is not None or reasons:
        return question
    more, all_cells = session.magic_name("llm"), session.magic_name("llm_config")

    def tell(result: GenerationResult) -> str:
        was_cut = result.finish_reason is FinishReason.LENGTH
        if not was_cut or (result.usage.completion_tokens or 0) < limit:
            return ""
        return (
            f"cells are limited to {limit:,} tokens: %%{more} --max-tokens N sets another limit, "
            f"%{all_cells} cell_limit=N for all cells (0: none)"
        )

    return replace(
        question,
        options=replace(question.options, max_tokens=limit),
        remarks=(*question.remarks, tell),
    )
