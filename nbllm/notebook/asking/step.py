"""What a capability of ``%llm`` adds to a question: one class, and one line in the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.core.model_interface import ModelInterface
from nbllm.core.types import GenerationResult, ModelInfo

if TYPE_CHECKING:
    from nbllm.notebook.asking.question import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["Step"]


class Step:
    """One concern of a question, on its way from the typed text to the kept answer.

    An instance serves one question and holds what it learns about it; continued answers go
    through the same instances again. Each method does nothing unless a step overrides it.
    """

    def __init__(self, session: NotebookSession) -> None:
        self.session = session

    def prepare(self, question: Question) -> Question:
        """In the cell's thread, before anything is loaded: may read the user's variables."""
        return question

    def preview(self, question: Question, info: ModelInfo | None) -> Question:
        """For ``--show-prompt``: what ``fit`` would send, as far as that is known without a model.

        ``info`` is the model that would be asked, None where there is none.
        """
        return question

    async def fit(self, question: Question, model: ModelInterface) -> Question:
        """On the loop, once the model is there: may count its tokens and look at its context."""
        return question

    def remark(self, question: Question, result: GenerationResult) -> str:
        """What the status line tells of the answer besides; "" for nothing."""
        return ""

    def deliver(self, question: Question, result: GenerationResult) -> None:
        """Once the answer is shown and kept in ``_llm``: may record it, convert it, show more.

        A partial answer comes here too (see ``finish_reason``). A question that runs in the
        background is delivered from the loop's thread.
        """
