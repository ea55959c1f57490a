"""``%llm`` and ``%%llm``: ask a model; ``%llm_last``: its answer once more."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import line_cell_magic, line_magic, magics_class, no_var_expand

from nbllm.notebook.flags import Argument, Help, flag, parser_of, with_help
from nbllm.notebook.forms.type_expressions import TypeExpression
from nbllm.notebook.magic_line import (
    Flags,
    UnclosedQuoteError,
    names,
    output_name,
    parse,
    parse_flags,
    parse_known,
    variable_name,
)
from nbllm.notebook.running_cell import brief_errors
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.types import GenerationResult
    from nbllm.notebook.asking.question import AskFlags
    from nbllm.notebook.help_card import Card
    from nbllm.notebook.jobs.jobs import Job
    from nbllm.notebook.prompts.shown_prompt import ShownPrompt

__all__ = ["ASK", "AskMagics"]


def _map_flags() -> tuple[Argument, ...]:
    from nbllm.notebook.batch.frame_request import map_flags

    return map_flags()


ASK = Help(
    """
    %%llm                            the model used last, or the bundled one
    Explain list comprehensions.

    %%llm gpt-4o -o answer --max-tokens 200 --system "Be brief."
    What does {"a": 1}["a"] give?

    %llm What is recursion?          one line, with the same flags in front
    summary = %llm --temperature 0 Sum up the plot of Hamlet.
    print(_llm.text, _llm.tokens_per_second)

    %%llm --chat trip --as table -o cities
    Describe {df} and the plot {figure}; what does {file:notes.txt} add?

    %llm --continue                  the last answer goes on where it was cut off

    %%llm --models smollm2,gpt-4o --diff -o answers
    What is a monad, in one sentence?

    %%llm --completion
    Once upon a time

    %%llm --bg -o job                goes on while other cells run
    Write a long story.
    job.result()                     waits for it, as "await job" does
""",
    (
        flag(
            "name",
            nargs="?",
            help="The model to ask (%%%%llm only); loaded if necessary. Default: the model used "
            "last, else the bundled one.",
        ),
        flag("-m", "--model", help="The model to ask; works for %%llm too."),
        flag(
            "-o",
            "--output",
            metavar="VAR",
            type=output_name,
            help="A variable for the result, in addition to _llm; with --bg, for the job.",
        ),
        flag(
            "--continue",
            dest="go_on",
            action="store_true",
            help="Go on with the last answer where it was cut off or stopped; without a prompt.",
        ),
        flag(
            "--models",
            metavar="A,B,C",
            type=names,
            help="Ask several models at once, their answers side by side; -o receives the list.",
        ),
        flag("--diff", action="store_true", help="With --models: how the answers differ."),
        flag("--bg", action="store_true", help="Answer in the background; see %%llm_jobs."),
        flag("--system", metavar="TEXT", help="System prompt: instructions before the prompt."),
        flag(
            "--chat",
            metavar="NAME",
            help="Continue this conversation; running a cell again replaces its turn.",
        ),
        flag(
            "--overflow",
            choices=("error", "drop-oldest", "summarise"),
            help="If the conversation exceeds the context: raise an error (default), drop the "
            "oldest turns, or have the model summarise them.",
        ),
        flag(
            "--as",
            dest="form",
            choices=("markdown", "text", "code", "json", "dataframe", "table", "math", "diff"),
            help="The form of the answer; -o then receives the value: code also goes into a new "
            "cell, json is parsed, dataframe and table become DataFrames.",
        ),
        flag(
            "--schema",
            metavar="TYPE",
            type=TypeExpression,
            help="Answer with JSON of this schema: a variable that holds one (a dict), or a type "
            "(a pydantic model, a dataclass, list[Person], …).",
        ),
        flag(
            "--map",
            metavar="DF",
            dest="frame",
            type=variable_name,
            help="Ask about every row of a DataFrame: {column} in the prompt is the row's value.",
        ),
        flag(
            "--completion",
            action="store_true",
            help="Continue the text as a base model does, without a chat template; local models.",
        ),
        flag(
            "--allow-file",
            metavar="PATH",
            action="append",
            help="A file or folder that {file:…} may read although it is hidden or outside the "
            "notebook's folder. May be given several times.",
        ),
        flag("--raw", action="store_true", help="Send braces as typed, {name} too."),
        flag(
            "--show-prompt",
            action="store_true",
            help="Show what would be sent, and count its tokens; nothing is sent.",
        ),
    ),
    declared=_map_flags,
    options="generation",
)

LAST = Help(
    """
    %llm_last                        the newest answer
    earlier = %llm_last 2            the one before it
""",
    (flag("number", nargs="?", type=int, default=1, help="1 is the newest (default)."),),
)


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
    ) -> Job[Any] | ShownPrompt | GenerationResult | list[GenerationResult] | Card | pd.DataFrame:
        """Ask a model; the answer streams into the cell, and is returned.

        ``%%llm`` sends the cell, ``%llm`` the rest of its line. The variable ``_llm`` holds the
        whole result too: text, model, device, usage, timings and finish reason. An interrupt
        stops the answer and keeps the text so far. With ``--bg`` the cell ends at once with a job.
        Alone, ``%llm`` shows every magic, as ``%llm_help`` does.
        """
        if cell is None and not line.strip():
            from nbllm.notebook.help_card import card_of

            return card_of(self.session)
        if cell is None:
            args, prompt = parse_flags(parser_of(self, "llm"), line, Flags())
        else:
            args, prompt = self._args_above(line), cell
        from nbllm.notebook.asking.question import AskFlags

        with brief_errors(), _as_typed(args):
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
    ) -> GenerationResult | list[GenerationResult] | Job[Any] | ShownPrompt | pd.DataFrame:
        from nbllm.notebook.asking.live_answer import ask
        from nbllm.notebook.asking.pipeline import prepare, question_from

        session = self.session
        if not flags.ask_once:
            from nbllm.notebook.asking.side_by_side import ask_all, checked_models
            from nbllm.notebook.batch.cell import check_batch_flags, map_cell

            flags = checked_models(flags)
            check_batch_flags(flags)
            if flags.models:
                return ask_all(session, prompt, flags)
            if flags.frame is not None:
                return map_cell(session, prompt, flags, flags.frame)
        if flags.go_on:
            from nbllm.notebook.asking.pipeline import continued

            prepared = continued(session, flags)
        else:
            prepared = prepare(session, question_from(session, prompt, flags))
        if flags.show_prompt:
            from nbllm.notebook.prompts.shown_prompt import shown_prompt

            return shown_prompt(session, prepared)
        if not flags.bg:
            return ask(session, prepared, session.open_view("llm"))
        from nbllm.notebook.jobs.jobs import begin_job

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


def _as_typed(args: Flags) -> AbstractContextManager[None]:
    """Messages of a run over a DataFrame name flags; ``args.frame`` is its variable."""
    from nbllm.core.option_names import written_as
    from nbllm.notebook.batch.frame_request import cell_form

    return nullcontext() if args.frame is None else written_as(cell_form(args.frame))


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
