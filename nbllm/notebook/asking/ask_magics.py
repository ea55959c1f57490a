"""``%llm`` and ``%%llm``: ask a model; ``%llm_last``: its answer once more."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import line_cell_magic, line_magic, magics_class, no_var_expand

from nbllm.notebook.asking.ask_flags import ASK, LAST
from nbllm.notebook.failures import brief_errors
from nbllm.notebook.flags import parser_of, with_help
from nbllm.notebook.magic_line import (
    Flags,
    UnclosedQuoteError,
    parse,
    parse_flags,
    parse_known,
)
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.types import GenerationResult
    from nbllm.notebook.asking.question import AskFlags
    from nbllm.notebook.help.card import Card
    from nbllm.notebook.jobs.jobs import Job
    from nbllm.notebook.prompts.shown_prompt import ShownPrompt

__all__ = ["AskMagics"]

_RESULT_TYPE = ("nbllm.core.results", "GenerationResult")


class LastFlags(Flags):
    """What ``LAST`` explains."""

    number: int


@magics_class
class AskMagics(SessionMagics):
    """The magics that ask. A result that is the value of a cell is shown as its answer was."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        formatter: Any = session.shell.display_formatter
        values = formatter.ipython_display_formatter
        values.for_type_by_name(*_RESULT_TYPE, self._show_result)
        session.at_close(lambda: values.pop(".".join(_RESULT_TYPE), None))

    @no_var_expand
    @with_help(ASK)
    @line_cell_magic
    def llm(
        self, line: str, cell: str | None = None
    ) -> Job | ShownPrompt | GenerationResult | list[GenerationResult] | Card | pd.DataFrame:
        """Ask a model; the answer streams into the cell, and is returned.

        ``%%llm`` sends the cell, ``%llm`` the rest of its line. The variable ``_llm`` holds the
        whole result too: text, model, device, usage, timings and finish reason. An interrupt
        stops the answer and keeps the text so far. With ``--bg`` the cell ends at once with a job.
        Alone, ``%llm`` shows every magic, as ``%llm_help`` does.
        """
        if cell is None and not line.strip():
            from nbllm.notebook.help.card import card_of

            return card_of(self.session)
        if cell is None:
            args, prompt = parse_flags(parser_of(self, "llm"), line, Flags())
        else:
            args, prompt = self._args_above(line), cell
        from nbllm.notebook.asking.question import AskFlags

        with brief_errors():
            flags = AskFlags.of(args)
            _check(flags, prompt)
            return self._ask(prompt, flags)

    def _args_above(self, line: str) -> Flags:
        """The arguments of ``%%llm`` itself, where a prompt does not belong."""
        try:
            args, more = parse_known(parser_of(self, "llm"), line, Flags())
        except UnclosedQuoteError:
            args, more = None, [line.strip()]
        if args is None or more:
            magic = f"%%{self.session.magic_name('llm')}"
            raise UsageError(
                f"put the prompt on the lines below {magic}; its own line takes a model's name "
                f"and flags only (got {shorten(line, 60, placeholder=' …')!r})"
            )
        return args

    def _ask(
        self, prompt: str, flags: AskFlags
    ) -> GenerationResult | list[GenerationResult] | Job | ShownPrompt | pd.DataFrame:
        from nbllm.notebook.asking.continuation import continued
        from nbllm.notebook.asking.live_answer import ask
        from nbllm.notebook.asking.pipeline import prepare, question_from
        from nbllm.notebook.asking.side_by_side import ask_all, check_side_by_side
        from nbllm.notebook.batch.cell import check_batch_flags, map_cell
        from nbllm.notebook.jobs.jobs import begin_job

        session = self.session
        check_batch_flags(flags)
        check_side_by_side(flags)
        if flags.models:
            return ask_all(session, prompt, flags)
        if flags.frame is not None:
            return map_cell(session, prompt, flags, flags.frame)
        if flags.go_on:
            prepared = continued(session, flags)
        else:
            prepared = prepare(session, question_from(session, prompt, flags))
        if flags.show_prompt:
            from nbllm.notebook.prompts.shown_prompt import shown_prompt

            return shown_prompt(session, prepared)
        if not flags.bg:
            return ask(session, prepared, session.open_view("llm"))
        job = begin_job(session, prepared)
        if flags.output:
            session.shell.user_ns[flags.output] = job
        return job

    @no_var_expand
    @with_help(LAST)
    @line_magic
    def llm_last(self, line: str) -> GenerationResult:
        """Show an earlier answer of this kernel again, such as after a reload of the page.

        Returns the whole result, as in ``_llm``, and shows it with its status line; the last fifty
        are kept.
        """
        number = parse(parser_of(self, "llm_last"), line, LastFlags()).number
        results = self.session.results
        if not 1 <= number <= len(results):
            raise UsageError(f"there is no answer {number}; this kernel keeps {len(results)}")
        return results[-number]

    def _show_result(self, result: GenerationResult) -> None:
        from nbllm.notebook.asking.live_answer import show_result

        show_result(self.session, result)


def _check(flags: AskFlags, prompt: str) -> None:
    """Raise ``UsageError`` where flags and prompt do not go together."""
    if flags.name and flags.model:
        raise UsageError(f"two models given: {flags.name} and {flags.model}; give one")
    if flags.go_on and prompt.strip():
        raise UsageError(
            "--continue takes no prompt: the last answer goes on. To ask more about it, use "
            "--chat NAME"
        )
    if not prompt.strip() and not flags.go_on:
        raise UsageError("no prompt: write it after %llm, or on the lines below %%llm")
