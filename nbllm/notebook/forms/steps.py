"""``--as`` and ``--schema``: asks for a form, shows the answer in it, and hands over its value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nbllm.core.answer_json import json_of
from nbllm.core.errors import AnswerFormError, InvalidOptionError
from nbllm.core.json_repair import closed
from nbllm.core.model_interface import ModelInterface
from nbllm.core.rendering.escaping import encodable, preformatted
from nbllm.core.rendering.portable_markdown import fenced
from nbllm.core.schemas.answers import AnswerSchema, answer_schema
from nbllm.core.schemas.kinds import plain_value
from nbllm.core.types import (
    FinishReason,
    GenerationOptions,
    GenerationResult,
    Message,
    ModelInfo,
    TextPart,
)
from nbllm.notebook.forms.diffs import diff_bundle
from nbllm.notebook.forms.forms import code_of, diff_of, math_of
from nbllm.notebook.forms.rows import ROWS, row_words
from nbllm.notebook.forms.type_expressions import named_type
from nbllm.notebook.views.bundles import Bundle

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = [
    "Form",
    "FormedAnswer",
    "bind_form",
    "bound",
    "deliver_form",
    "prepare_form",
    "with_form",
]

_SHOWN_ROWS, _SHOWN_COLUMNS, _CELL_CHARACTERS = 200, 50, 2_000
_UNFINISHED = (FinishReason.CANCELLED, FinishReason.FAILED)
_CUT = (FinishReason.LENGTH, FinishReason.REPETITION)


@dataclass(frozen=True, slots=True)
class Form:
    """A form of answers: the words that ask for it, its parser, and how a value is shown.

    ``is_code`` says that the value goes into a new cell. ``schema`` binds local models, which then
    cannot miss the form, and are asked with ``bound_instruction`` if there is one. ``mend`` makes
    the best of an answer that was cut off. ``is_rows`` says that a value is a DataFrame.
    """

    instruction: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str | Bundle]
    is_code: bool = False
    schema: Mapping[str, Any] | None = None
    bound_instruction: str = ""
    mend: Callable[[str], str] = str
    is_rows: bool = False


@dataclass(slots=True)
class FormedAnswer:
    """One answer that is to have a form, and what it came to."""

    form: Form
    value: Any = None
    problem: AnswerFormError | None = field(default=None)
    is_mended: bool = False
    is_bound: bool = False

    def render(self, result: GenerationResult) -> str | Bundle:
        """Read the answer; what has not the form is shown as it is."""
        self.problem = None
        if result.finish_reason in _UNFINISHED:
            return result.text
        was_cut = result.finish_reason in _CUT
        text = self.form.mend(result.text) if was_cut else result.text
        self.is_mended = text != result.text
        try:
            self.value = self.form.parse(text)
        except AnswerFormError as error:
            self.problem = error
            return result.text
        return self.form.show(self.value)

    def remark(self, result: GenerationResult) -> str:
        """What the status line tells of it."""
        if self.problem is not None or result.finish_reason in _UNFINISHED:
            return ""
        words = ["the value holds the complete part only"] if self.is_mended else []
        if self.form.is_rows:
            words += row_words(len(self.value), is_bound=self.is_bound)
        return " · ".join(words)


def prepare_form(session: NotebookSession, question: Question) -> Question:
    """Ask for the form that ``--as`` or ``--schema`` names."""
    args = question.args
    if args.schema:
        return _with_schema(session, question, args.schema, args.form or "json")
    if args.form in (None, "markdown"):
        return question
    return with_form(question, _FORMS[args.form], f"--as {args.form}")


def with_form(question: Question, form: Form, flag: str) -> Question:
    """The question, which asks for ``form`` because of ``flag``."""
    if question.args.bg and form is not _FORMS["text"]:
        raise InvalidOptionError(
            flag, "the value must be ready when the cell ends, so it cannot be combined with --bg"
        )
    formed = FormedAnswer(form)
    *earlier, message = question.messages
    asked = Message(message.role, _with_words(message, form.instruction))
    return replace(
        question,
        messages=(*earlier, asked),
        render=formed.render,
        remarks=(*question.remarks, formed.remark),
        formed=formed,
    )


async def bind_form(
    session: NotebookSession, question: Question, model: ModelInterface
) -> Question:
    """Have a local model keep to the form; see ``bound``."""
    return bound(question, model.info)


def bound(question: Question, info: ModelInfo) -> Question:
    """The question as it is asked of a model, whose grammar binds it where it is a local one.

    What is cut off is mended, so that a loop may be ended. Vendors' schemas can't say "any JSON".
    """
    if question.formed is None:
        return question
    form = question.formed.form
    asked = info.options.merged(question.options)
    is_bound = asked.grammar is not None or asked.response_schema is not None
    if form.schema is None or not info.local or is_bound:
        return question
    *earlier, message = question.messages
    if form.bound_instruction:
        message = Message(message.role, _with_other_words(message, form))
    question.formed.is_bound = True
    binding = GenerationOptions(response_schema=form.schema, stop_repetition=True)
    options = binding.merged(question.options)
    return replace(question, messages=(*earlier, message), options=options)


def deliver_form(session: NotebookSession, question: Question, result: GenerationResult) -> None:
    """Put the value into the ``-o`` variable, and code into a new cell.

    Raises ``AnswerFormError`` where there is none; then the variable is taken away, so that no
    later cell goes on with the value of an earlier run.
    """
    formed, variable = question.formed, question.args.output
    if formed is None or question.args.bg:
        return
    if formed.problem is not None or result.finish_reason in _UNFINISHED:
        session.shell.user_ns.pop(variable, None)
    elif variable:
        session.shell.user_ns[variable] = formed.value
    if formed.problem is not None:
        raise _told(formed.problem, result)
    if formed.form.is_code and result.finish_reason not in _UNFINISHED:
        session.shell.set_next_input(formed.value, replace=False)


def _told(problem: AnswerFormError, result: GenerationResult) -> AnswerFormError:
    cut = result.finish_reason is FinishReason.LENGTH
    hint = "; it was cut off at the token limit, so raise --max-tokens" if cut else ""
    words = f"{problem.problem}{hint}. The whole text is shown above and in _llm.text"
    return AnswerFormError(problem.form, words, text=problem.text)


def _with_words(message: Message, words: str) -> Any:
    if isinstance(message.content, str):
        return f"{message.content.rstrip()}\n\n{words}"
    return (*message.content, TextPart(f"\n\n{words}"))


def _with_other_words(message: Message, form: Form) -> Any:
    if isinstance(message.content, str):
        return message.content.removesuffix(form.instruction) + form.bound_instruction
    return (*message.content[:-1], TextPart(f"\n\n{form.bound_instruction}"))


def _with_schema(session: NotebookSession, question: Question, name: str, form: str) -> Question:
    if form not in ("json", "dataframe"):
        raise InvalidOptionError(
            "schema", f"it asks for JSON and cannot be combined with --as {form}"
        )
    schema = answer_schema(named_type(name, question.scope), name)
    written = json.dumps(schema.json_schema, ensure_ascii=False, default=str)
    words = f"Answer with JSON only, following this JSON schema:\n{written}"
    show = _show_json if schema.kind is None else _show_instances
    made = Form(words, schema.parse, show, mend=closed)
    if form == "dataframe":
        made = replace(made, parse=partial(_checked_frame, schema), show=_show_frame, is_rows=True)
    options = replace(question.options, response_schema=schema.json_schema)
    return with_form(replace(question, options=options, schema=schema), made, "--schema")


# ---------------------------------------------------------------- how values are shown


def _show_json(value: Any) -> str:
    return fenced(json.dumps(value, indent=2, ensure_ascii=False), "json")


def _show_instances(value: Any) -> str:
    return _show_json(plain_value(value))


def _show_code(code: str) -> str:
    return fenced(code, "" if code.startswith("%%") else "python")


def _show_text(text: str) -> Bundle:
    # As plain text alone JupyterLab would make links of it, to addresses of any scheme.
    return Bundle({"text/html": preformatted(text), "text/plain": encodable(text)})


def _show_math(latex: str) -> str:
    return "\n\n".join(f"$$\n{formula}\n$$" for formula in latex.split("\n\n"))


def _show_diff(diff: str) -> Bundle:
    return diff_bundle(diff)


def _show_frame(frame: Any) -> Bundle:
    """The beginning of a DataFrame; pandas' own HTML would have its formulas typeset."""
    from nbllm.notebook.tables import Table

    table = Table(frame.iloc[:_SHOWN_ROWS, :_SHOWN_COLUMNS].map(_shown_cell))
    if table.shape != frame.shape:
        rows, columns = frame.shape
        table.attrs["notes"] = [
            f"The first {len(table):,} of {rows:,} rows and {table.shape[1]:,} of {columns:,} "
            "columns"
        ]
    return Bundle({"text/html": table._repr_html_(), "text/plain": encodable(repr(table))})


def _shown_cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 1]}…"


def _read_table(text: str) -> Any:
    from nbllm.notebook.forms.tables import dataframe_of

    return dataframe_of(text)


def _checked_frame(schema: AnswerSchema, text: str) -> Any:
    schema.parse(text)
    try:
        rows = json_of(text)
    except ValueError:
        raise AnswerFormError("table", "its JSON holds no rows", text=text) from None
    from nbllm.notebook.forms.tables import dataframe_from

    return dataframe_from(rows, schema.json_schema)


_AS_ROWS = "Answer with a JSON array of objects only, one a row, all with the same keys."
_OBJECT_OR_ARRAY = {"anyOf": [{"type": "object"}, {"type": "array"}]}
_FORMS = {
    "text": Form("Answer in plain text, without Markdown.", str, _show_text),
    "code": Form("Answer with code only, in one fenced block.", code_of, _show_code, is_code=True),
    "json": Form(
        "Answer with JSON only.", json_of, _show_json, schema=_OBJECT_OR_ARRAY, mend=closed
    ),
    "dataframe": Form(
        _AS_ROWS,
        _read_table,
        _show_frame,
        schema=ROWS,
        mend=closed,
        is_rows=True,
    ),
    "table": Form(
        "Answer with a Markdown table only.",
        _read_table,
        _show_frame,
        schema=ROWS,
        bound_instruction=_AS_ROWS,
        mend=closed,
        is_rows=True,
    ),
    "math": Form("Answer with LaTeX only, between $$ and $$.", math_of, _show_math),
    "diff": Form("Answer with a unified diff only, in one fenced block.", diff_of, _show_diff),
}
