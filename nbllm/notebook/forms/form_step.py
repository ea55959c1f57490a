"""Steps that ask for a form and show the answer in it: ``--as``, ``--schema`` and ``%llm_fix``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.kinds import kind_of
from nbllm.core.model_interface import ModelInterface
from nbllm.core.schemas.answer_schemas import answer_schema
from nbllm.core.types import (
    ContentPart,
    FinishReason,
    GenerationOptions,
    GenerationResult,
    Message,
    ModelInfo,
    TextPart,
)
from nbllm.notebook.asking.question import Question, Step
from nbllm.notebook.forms.answer_forms import FORMS, Form, code_of, rows_message, schema_form
from nbllm.notebook.forms.diffs import diff_bundle, unified
from nbllm.notebook.forms.type_expressions import named_type
from nbllm.notebook.prompts.scope import variables_in_scope
from nbllm.notebook.prompts.typed_cells import LastError
from nbllm.notebook.session import NotebookSession
from nbllm.notebook.views.bundles import Bundle

__all__ = ["FixStep", "FormStep"]

_UNFINISHED = (FinishReason.CANCELLED, FinishReason.FAILED)
_CUT = (FinishReason.LENGTH, FinishReason.REPETITION)


class FormStep(Step):
    """The form that an answer is to have, and what the answer came to.

    ``form`` is None until a flag names one, and stays so without.
    """

    flags = ("form", "schema")
    form: Form | None = None
    value: Any = None
    problem: AnswerFormError | None = None
    _is_mended = _is_bound = False

    def prepare(self, question: Question) -> Question:
        """Ask for the form that ``--as`` or ``--schema`` names."""
        flags = question.flags
        if flags.schema:
            return self._with_schema(question, flags.schema, flags.form or "json")
        if flags.form in (None, "markdown"):
            return question
        return self.with_form(question, FORMS[flags.form], f"--as {flags.form}")

    def preview(self, question: Question, info: ModelInfo | None) -> Question:
        """As ``fit``, where the model is known."""
        return question if info is None else self._bound(question, info)

    async def fit(self, question: Question, model: ModelInterface) -> Question:
        """Have a local model keep to the form."""
        return self._bound(question, model.info)

    def remark(self, question: Question, result: GenerationResult) -> str:
        """Whether the value is all of it, and has rows."""
        if self.form is None or self.problem or result.finish_reason in _UNFINISHED:
            return ""
        messages = ["the value holds the complete part only"] if self._is_mended else []
        if self.form.is_rows:
            messages += rows_message(len(self.value), is_bound=self._is_bound)
        return " · ".join(messages)

    def deliver(self, question: Question, result: GenerationResult) -> None:
        """Put the value into the ``-o`` variable, and code into a new cell.

        Raises ``AnswerFormError`` where there is none; then the variable is taken away, so that no
        later cell goes on with the value of an earlier run.
        """
        variable, shell = question.flags.output, self.session.shell
        if self.form is None or question.flags.bg:
            return
        if self.problem is not None or result.finish_reason in _UNFINISHED:
            shell.user_ns.pop(variable, None)
        elif variable:
            shell.user_ns[variable] = self.value
        if self.problem is not None:
            raise _with_remedy(self.problem, result)
        if self.form.is_code and result.finish_reason not in _UNFINISHED:
            shell.set_next_input(self.value, replace=False)

    def _with_schema(self, question: Question, name: str, form: str) -> Question:
        if form not in ("json", "dataframe"):
            raise InvalidOptionError(
                "schema", f"it asks for JSON and cannot be combined with --as {form}"
            )
        scope = variables_in_scope(self.session.shell)
        schema = answer_schema(named_type(name, scope), name)
        options = question.options.replaced(response_schema=schema.json_schema)
        return self.with_form(
            replace(question, options=options, schema=schema),
            schema_form(schema, is_rows=form == "dataframe"),
            "--schema",
        )

    def with_form(self, question: Question, form: Form, flag: str) -> Question:
        """The question, which asks for ``form`` because of ``flag``."""
        if question.flags.bg and form is not FORMS["text"]:
            raise InvalidOptionError(
                flag,
                "the value must be ready when the cell ends, so it cannot be combined with --bg",
            )
        self.form = form
        *earlier, message = question.messages
        formed = Message(message.role, _with_instruction(message, form.instruction))
        return replace(
            question, messages=(*earlier, formed), render=self._render, can_continue=False
        )

    def _bound(self, question: Question, info: ModelInfo) -> Question:
        """The question as it is asked of a model, whose grammar binds it where it is a local one.

        What is cut off is mended, so that a loop may be ended. Vendors' schemas can't say "any
        JSON".
        """
        form, given = self.form, info.options.merged(question.options)
        is_bound = given.grammar is not None or given.response_schema is not None
        can_bind = kind_of(info).follows_grammars and not is_bound
        if form is None or form.schema is None or not can_bind:
            return question
        *earlier, message = question.messages
        if form.bound_instruction:
            message = Message(message.role, _with_bound_instruction(message, form))
        self._is_bound = True
        binding = GenerationOptions(response_schema=form.schema, stop_repetition=True)
        options = binding.merged(question.options)
        return replace(question, messages=(*earlier, message), options=options)

    def _render(self, result: GenerationResult) -> str | Bundle:
        """Read the answer; one that does not have the form is shown as it is."""
        self.problem = None
        if self.form is None or result.finish_reason in _UNFINISHED:
            return result.text
        was_cut = result.finish_reason in _CUT
        text = self.form.mend(result.text) if was_cut else result.text
        self._is_mended = text != result.text
        try:
            self.value = self.form.parse(text)
        except AnswerFormError as error:
            self.problem = error
            return result.text
        return self.form.show(self.value)


def _with_remedy(problem: AnswerFormError, result: GenerationResult) -> AnswerFormError:
    cut = result.finish_reason is FinishReason.LENGTH
    hint = "; it was cut off at the token limit, so raise --max-tokens" if cut else ""
    message = f"{problem.problem}{hint}. The whole text is shown above and in _llm.text"
    return AnswerFormError(problem.form, message, text=problem.text)


def _with_instruction(message: Message, instruction: str) -> str | tuple[ContentPart, ...]:
    if isinstance(message.content, str):
        return f"{message.content.rstrip()}\n\n{instruction}"
    return (*message.content, TextPart(f"\n\n{instruction}"))


def _with_bound_instruction(message: Message, form: Form) -> str | tuple[ContentPart, ...]:
    if isinstance(message.content, str):
        return message.content.removesuffix(form.instruction) + form.bound_instruction
    return (*message.content[:-1], TextPart(f"\n\n{form.bound_instruction}"))


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
