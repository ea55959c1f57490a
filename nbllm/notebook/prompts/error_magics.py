"""``%llm_explain`` and ``%llm_fix``: a model looks at the last error."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.arguments import parse_flags
from nbllm.notebook.asking.flags import ASK
from nbllm.notebook.failures import brief_errors
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.prompts.last_error import last_error, note_error
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    from nbllm.core.types import GenerationResult
    from nbllm.notebook.forms.steps import Form
    from nbllm.notebook.jobs.jobs import Job
    from nbllm.notebook.prompts.typed_cells import TypedCells
    from nbllm.notebook.views.bundles import Bundle

__all__ = ["ErrorMagics"]

_EXPLAIN = (
    "Explain this Python error to the person who wrote the code: what went wrong, where, and how "
    "to mend it. Be brief, and show the lines to change."
)
_FIX = "Correct this notebook cell, which failed. Change as little as possible."
_FLAGS = tuple(
    (names, settings)
    for names, settings in ASK.arguments
    if not {"name", "--raw", "--allow-file", "--show-prompt", "--as", "--schema"} & set(names)
)

EXPLAIN = Help(
    """
    %llm_explain                          the model used last, or the bundled one
    %llm_explain -m gpt-4o                another model
    %llm_explain Why is it only wrong in summer?
    %llm_explain --chat debugging         goes on in a conversation
""",
    _FLAGS,
)
FIX = Help(
    """
    %llm_fix                              proposes a corrected cell, as a diff
    %llm_fix --accept                     puts the proposal into a new cell below; it does not run
    %llm_fix -m gpt-4o Use pathlib.       another model, and a wish
""",
    (
        flag("--accept", action="store_true", help="Put the last proposal into a new cell below."),
        *(each for each in _FLAGS if "--bg" not in each[0]),
    ),
)


@magics_class
class ErrorMagics(SessionMagics):
    """The magics for the last error."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        events = session.shell.events
        note = partial(note_error, session)
        events.register("post_run_cell", note)
        session.at_close(lambda: events.unregister("post_run_cell", note))

    @no_var_expand
    @with_help(EXPLAIN)
    @line_magic
    def llm_explain(self, line: str) -> GenerationResult | Job:
        """Have a model explain the last error, with the source around it.

        Sent are the trimmed traceback, the lines around the failure in your own code, and the
        versions of the packages in it; no values of variables.
        """
        args, wish = parse_flags(parser_of(self, "llm_explain"), line)
        error = self._error()
        from nbllm.notebook.prompts.tracebacks import error_report, versions

        report = error_report(error, self.session.shell.user_ns, self._cells)
        prompt = f"{_EXPLAIN}\n\n{versions(error)}\n\n{report}"
        with brief_errors():
            return self._ask("llm_explain", f"{prompt}\n\n{wish}".rstrip(), args, error)

    @no_var_expand
    @with_help(FIX)
    @line_magic
    def llm_fix(self, line: str) -> GenerationResult | Job | None:
        """Have a model correct the last failed cell; shows the proposed changes.

        Nothing is changed by itself: ``%llm_fix --accept`` puts the corrected cell below, where
        you run it or not.
        """
        args, wish = parse_flags(parser_of(self, "llm_fix"), line)
        if args.accept:
            self._accept()
            return None
        error = self._error()
        from nbllm.notebook.prompts.tracebacks import error_report, failed_source, versions

        namespace = self.session.shell.user_ns
        source = failed_source(error, namespace, self._cells)
        if source is None:
            raise UsageError("the source of the failed cell is no longer known")
        report = f"{versions(error)}\n\n{error_report(error, namespace, self._cells)}"
        prompt = f"{_FIX} {wish}".rstrip() + f"\n\n```python\n{source}\n```\n\n{report}"
        with brief_errors():
            return self._ask("llm_fix", prompt, args, error, self._fix_form(source))

    def _accept(self) -> None:
        if self.session.proposal is None:
            raise UsageError(f"no proposal yet; {self._fix} proposes a corrected cell")
        self.session.shell.set_next_input(self.session.proposal, replace=False)
        self.session.proposal = None

    def _fix_form(self, source: str) -> Form:
        """Code that is shown by what it changes, and kept as the proposal."""
        from nbllm.core.errors import AnswerFormError
        from nbllm.notebook.forms.diffs import diff_bundle, unified
        from nbllm.notebook.forms.forms import code_of
        from nbllm.notebook.forms.steps import Form

        self.session.proposal = None

        def parse(text: str) -> str:
            code = code_of(text)
            if code.strip() == source.strip():
                raise AnswerFormError("fix", "it changes nothing", text=text)
            self.session.proposal = code
            return code

        def show(code: str) -> Bundle:
            return diff_bundle(unified(source, code))

        return Form("Answer with the whole corrected cell in one fenced block.", parse, show)

    def _offer(self, result: GenerationResult) -> str:
        return (
            f"{self._fix} --accept inserts it as a new cell below" if self.session.proposal else ""
        )

    @property
    def _fix(self) -> str:
        return f"%{self.session.magic_name('llm_fix')}"

    def _error(self) -> BaseException:
        error = last_error(self.session)
        if error is None:
            raise UsageError("there is no error to look at: no cell has failed yet")
        return error

    @property
    def _cells(self) -> TypedCells:
        from nbllm.notebook.prompts.typed_cells import TypedCells

        return TypedCells(self.session.shell, self.session.last_cell)

    def _ask(
        self,
        magic: str,
        prompt: str,
        args: Namespace,
        error: BaseException,
        form: Form | None = None,
    ) -> GenerationResult | Job:
        """Ask as ``%llm`` does, braces left alone, below a line that says which error is meant."""
        from nbllm.notebook.asking.asking import ask
        from nbllm.notebook.asking.pipeline import prepared, question_from
        from nbllm.notebook.forms.steps import with_form
        from nbllm.notebook.jobs.jobs import begin_job
        from nbllm.notebook.prompts.tracebacks import title

        preset = {
            "name": None,
            "raw": True,
            "allow_file": None,
            "form": None,
            "schema": None,
            "bg": False,
        }
        filled = Namespace(**{**preset, **vars(args)})
        question = prepared(self.session, question_from(self.session, prompt, filled))
        view = self.session.open_view(magic)
        view.keep(title(error, self.session.shell.user_ns, self._cells))
        if filled.bg:
            return begin_job(self.session, question)
        if form is not None:
            question = with_form(question, form, f"%{magic}")
            question = replace(question, remarks=(*question.remarks, self._offer))
        return ask(self.session, question, view)
