"""``%llm_fix``: an answer that is a corrected cell, shown by what it changes."""

from __future__ import annotations

from nbllm.core.errors import AnswerFormError
from nbllm.core.types import GenerationResult
from nbllm.notebook.asking.question import Question
from nbllm.notebook.forms.answer_forms import Form
from nbllm.notebook.forms.diffs import diff_bundle, unified
from nbllm.notebook.forms.form_parsers import code_of
from nbllm.notebook.forms.form_step import FormStep
from nbllm.notebook.prompts.last_error import LastError
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.views.bundles import Bundle

__all__ = ["FixStep"]


class FixStep(FormStep):
    """Asks for the cell ``source`` corrected, and keeps it as the proposal of the session."""

    def __init__(self, session: NotebookSession, source: str) -> None:
        super().__init__(session)
        self._source, self._last = source, session.part(LastError)
        self._last.proposal = None

    def prepare(self, question: Question) -> Question:
        """Ask for the whole cell."""
        form = Form(
            "Answer with the whole corrected cell in one fenced block.", self._read, self._show
        )
        return self.with_form(question, form, f"%{self._magic}")

    def remark(self, question: Question, result: GenerationResult) -> str:
        """How to take the proposal, where there is one."""
        accept = f"%{self._magic} --accept inserts it as a new cell below"
        return accept if self._last.proposal else ""

    @property
    def _magic(self) -> str:
        return self.session.magic_name("llm_fix")

    def _read(self, text: str) -> str:
        code = code_of(text)
        if code.strip() == self._source.strip():
            raise AnswerFormError("fix", "it changes nothing", text=text)
        self._last.proposal = code
        return code

    def _show(self, code: str) -> Bundle:
        return diff_bundle(unified(self._source, code))
