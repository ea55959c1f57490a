"""``%llm_explain`` and ``%llm_fix``: a model looks at the last error."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.asking.ask_magics import ASK
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse_flags
from nbllm.notebook.prompts.typed_cells import LastError
from nbllm.notebook.running_cell import brief_errors
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    from nbllm.core.types import GenerationResult
    from nbllm.notebook.forms.form_step import FormStep
    from nbllm.notebook.jobs.jobs import AnswerJob
    from nbllm.notebook.prompts.typed_cells import TypedCells

__all__ = ["ErrorMagics"]

_EXPLAIN = (
    "Explain this Python error to the person who wrote the code: what went wrong, where, and how "
    "to mend it. Be brief, and show the lines to change."
)
_FIX = "Correct this notebook cell, which failed. Change as little as possible."
_ABOUT_PROMPTS = {"name", "--raw", "--allow-file", "--show-prompt", "--as", "--schema"}
_ABOUT_TABLES = {
    *("--map", "--into", "--decide", "--calibrate", "--dry-run", "--journal", "--max-cost"),
    *("--max-total-tokens", "--batch-api", "--cancel-batch"),
}
_FLAGS = tuple(
    (names, settings)
    for names, settings in ASK.arguments
    if not (_ABOUT_PROMPTS | _ABOUT_TABLES) & set(names)
)

EXPLAIN = Help(
    """
    %llm_explain                          the model used last, or the bundled one
    %llm_explain -m gpt-4o                another model
    %llm_explain Why is it only wrong in summer?
    %llm_explain --chat debugging         goes on in a conversation
""",
    _FLAGS,
    options="generation",
)
FIX = Help(
    """
    %llm_fix                              proposes a corrected cell, as a diff
    %llm_fix --accept                     puts the proposal into a new cell below; it does not run
    %llm_fix -m gpt-4o Use pathlib.       another model, and a request
""",
    (
        flag("--accept", action="store_true", help="Put the last proposal into a new cell below."),
        *(each for each in _FLAGS if "--bg" not in each[0]),
    ),
    options="generation",
)


class FixFlags(Flags):
    """What ``FIX`` explains beside the flags of ``%llm``."""

    accept: bool


@magics_class
class ErrorMagics(SessionMagics):
    """The magics for the last error."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        self._last = session.part(LastError)
        events = session.shell.events
        events.register("post_run_cell", self._last.note)
        session.at_close(lambda: events.unregister("post_run_cell", self._last.note))

    @no_var_expand
    @with_help(EXPLAIN)
    @line_magic
    def llm_explain(self, line: str) -> GenerationResult | AnswerJob:
        """Have a model explain the last error, with the source around it.

        Sent are the trimmed traceback, the lines around the failure in your own code, and the
        versions of the packages in it; no values of variables.
        """
        args, request = parse_flags(parser_of(self, "llm_explain"), line, Flags())
        error = self._error()
        from nbllm.notebook.prompts.tracebacks import error_report, versions

        report = error_report(error, self.session.shell.user_ns, self._cells)
        prompt = f"{_EXPLAIN}\n\n{versions(error)}\n\n{report}"
        with brief_errors():
            return self._ask("llm_explain", f"{prompt}\n\n{request}".rstrip(), args, error)

    @no_var_expand
    @with_help(FIX)
    @line_magic
    def llm_fix(self, line: str) -> GenerationResult | AnswerJob | None:
        """Have a model correct the last failed cell; shows the proposed changes.

        Nothing is changed automatically: ``%llm_fix --accept`` inserts the corrected cell below,
        without running it.
        """
        args, request = parse_flags(parser_of(self, "llm_fix"), line, FixFlags())
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
        prompt = f"{_FIX} {request}".rstrip() + f"\n\n```python\n{source}\n```\n\n{report}"
        with brief_errors():
            return self._ask("llm_fix", prompt, args, error, self._fix_step(source))

    def _accept(self) -> None:
        if self._last.proposal is None:
            fix = self.session.magic_name("llm_fix")
            raise UsageError(f"no proposal yet; %{fix} proposes a corrected cell")
        self.session.shell.set_next_input(self._last.proposal, replace=False)
        self._last.proposal = None

    def _fix_step(self, source: str) -> FormStep:
        from nbllm.notebook.forms.form_step import FixStep

        return FixStep(self.session, source)

    def _error(self) -> BaseException:
        error = self._last.shown_in(self.session.shell)
        if error is None:
            raise UsageError("there is no error to look at: no cell has failed yet")
        return error

    @property
    def _cells(self) -> TypedCells:
        from nbllm.notebook.prompts.typed_cells import TypedCells

        return TypedCells(self.session.shell, self._last.cell)

    def _ask(
        self,
        magic: str,
        prompt: str,
        args: Flags,
        error: BaseException,
        form: FormStep | None = None,
    ) -> GenerationResult | AnswerJob:
        """Ask as ``%llm`` does, braces left alone, below a line that says which error is meant."""
        from nbllm.notebook.asking.live_answer import ask
        from nbllm.notebook.asking.pipeline import prepare, question_from
        from nbllm.notebook.asking.question import AskFlags
        from nbllm.notebook.jobs.jobs import begin_job
        from nbllm.notebook.prompts.tracebacks import title

        session, flags = self.session, replace(AskFlags.of(args), raw=True)
        prepared = prepare(session, question_from(session, prompt, flags), form)
        view = session.open_view(magic)
        view.keep(title(error, session.shell.user_ns, self._cells))
        return begin_job(session, prepared) if flags.bg else ask(session, prepared, view)
