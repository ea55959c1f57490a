"""``%llm_explain`` and ``%llm_fix``: a model looks at the last error."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.arguments import parse_flags
from nbllm.notebook.asking.flags import ASK
from nbllm.notebook.failures import brief_errors
from nbllm.notebook.flags import Help, flag, parser_of, with_help
from nbllm.notebook.session import Failure, NotebookSession, SessionMagics, is_own

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult

    from nbllm.core.types import GenerationResult
    from nbllm.notebook.forms.steps import Form
    from nbllm.notebook.jobs.jobs import Job
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
    """The magics for the last error. ``proposal`` is the cell that the last fix came to."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        self.proposal: str | None = None
        events = session.shell.events
        events.register("post_run_cell", self._note_error)
        session.at_close(lambda: events.unregister("post_run_cell", self._note_error))

    @no_var_expand
    @with_help(EXPLAIN)
    @line_magic
    def llm_explain(self, line: str) -> Job | None:
        """Have a model explain the last error, with the source around it.

        Sent are the trimmed traceback, the lines around the failure in your own code, and the
        versions of the packages in it; no values of variables.
        """
        args, wish = parse_flags(parser_of(self, "llm_explain"), line)
        failure = self._failure()
        from nbllm.notebook.prompts.tracebacks import error_report, versions

        report = error_report(failure.error, self.session.shell.user_ns, failure.cell)
        prompt = f"{_EXPLAIN}\n\n{versions(failure.error)}\n\n{report}"
        with brief_errors():
            return self._ask("llm_explain", f"{prompt}\n\n{wish}".rstrip(), args)

    @no_var_expand
    @with_help(FIX)
    @line_magic
    def llm_fix(self, line: str) -> None:
        """Have a model correct the last failed cell; shows the proposed changes.

        Nothing is changed by itself: ``%llm_fix --accept`` puts the corrected cell below, where
        you run it or not.
        """
        args, wish = parse_flags(parser_of(self, "llm_fix"), line)
        if args.accept:
            self._accept()
            return
        failure = self._failure()
        from nbllm.notebook.prompts.tracebacks import error_report, failed_source, versions

        error, namespace = failure.error, self.session.shell.user_ns
        source = failure.cell or failed_source(error, namespace)
        if source is None:
            raise UsageError("the source of the failed cell is no longer known")
        report = f"{versions(error)}\n\n{error_report(error, namespace, failure.cell)}"
        prompt = f"{_FIX} {wish}".rstrip() + f"\n\n```python\n{source}\n```\n\n{report}"
        with brief_errors():
            self._ask("llm_fix", prompt, args, self._fix_form(source))

    def _note_error(self, ran: ExecutionResult) -> None:
        """Remember the error of a cell, but not what a magic of nbllm's told."""
        error = ran.error_in_exec or ran.error_before_exec
        if error is not None and is_own(error):
            cell = getattr(ran.info, "raw_cell", None)
            number = ran.execution_count or self.session.shell.execution_count
            self.session.state.failure = Failure(error, cell and cell.strip("\n"), number)

    def _accept(self) -> None:
        if self.proposal is None:
            raise UsageError(f"no proposal yet; {self._fix} proposes a corrected cell")
        self.session.shell.set_next_input(self.proposal, replace=False)
        self.proposal = None

    def _fix_form(self, source: str) -> Form:
        """Code that is shown by what it changes, and kept as the proposal."""
        from nbllm.core.errors import AnswerFormError
        from nbllm.notebook.forms.diffs import diff_bundle, unified
        from nbllm.notebook.forms.forms import code_of
        from nbllm.notebook.forms.steps import Form

        self.proposal = None

        def parse(text: str) -> str:
            code = code_of(text)
            if code.strip() == source.strip():
                raise AnswerFormError("fix", "it changes nothing", text=text)
            self.proposal = code
            return code

        def show(code: str) -> Bundle:
            return diff_bundle(unified(source, code))

        return Form("Answer with the whole corrected cell in one fenced block.", parse, show)

    def _offer(self, result: GenerationResult) -> str:
        return f"{self._fix} --accept inserts it as a new cell below" if self.proposal else ""

    @property
    def _fix(self) -> str:
        return f"%{self.session.magic_name('llm_fix')}"

    def _failure(self) -> Failure:
        failure = self.session.failure
        if failure is None:
            raise UsageError("no cell of this kernel has failed yet")
        return failure

    def _about(self) -> str:
        """Which error it is about, for the reader."""
        failure = self._failure()
        place = "" if failure.number is None else f" of cell [{failure.number}]"
        return f"About the {type(failure.error).__name__}{place}."

    def _ask(
        self, magic: str, prompt: str, args: Namespace, form: Form | None = None
    ) -> Job | None:
        """Ask as ``%llm`` does, with the braces of the code left alone."""
        from nbllm.notebook.asking.asking import ask
        from nbllm.notebook.asking.pipeline import prepared, question_from
        from nbllm.notebook.forms.steps import with_form
        from nbllm.notebook.jobs.jobs import begin_job

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
        if filled.bg:
            return begin_job(self.session, question)
        if form is not None:
            question = with_form(question, form, f"%{magic}")
            question = replace(question, remarks=(*question.remarks, self._offer))
        view = self.session.open_view(magic)
        view.keep(self._about())
        ask(self.session, question, view)
        return None
