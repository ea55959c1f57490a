"""What to do about an answer that was cut off or stopped, in the status line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import FinishReason, GenerationResult

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["tell_remedies"]


async def tell_remedies(
    session: NotebookSession, question: Question, model: ModelInterface
) -> Question:
    """Have the status line name the way to go on, or to another answer."""
    magic, limit = session.magic_name("llm"), model.info.context_length

    def tell(result: GenerationResult) -> str:
        match result.finish_reason:
            case FinishReason.LENGTH if (result.usage.total_tokens or 0) >= (limit or 2**63):
                return f"the context of {limit:,} tokens is full"
            case FinishReason.LENGTH if question.formed is None:
                return f"%{magic} --continue goes on"
            case FinishReason.REPETITION:
                return f"another --seed or %%{magic} --repeat-penalty 1.1 may avoid it"
        return ""

    return replace(question, remarks=(*question.remarks, tell))
