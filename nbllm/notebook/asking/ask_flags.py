"""The arguments of ``%llm`` and ``%%llm``, and of ``%llm_last``."""

from __future__ import annotations

from nbllm.notebook.flags import Help, flag
from nbllm.notebook.forms.type_expressions import TypeExpression
from nbllm.notebook.magic_line import names, output_name, variable_name

__all__ = ["ASK", "LAST"]

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
        flag("--into", metavar="NAME", help="With --map: the name of the new column or columns."),
        flag(
            "--decide",
            metavar="LABELS",
            type=TypeExpression,
            help="With --map: choose among labels, with their probabilities: a variable that holds "
            'a dict, or {"team": ["red", "blue"], "urgent": bool, "tone": range(1, 6)}.',
        ),
        flag(
            "--calibrate",
            action="store_true",
            help="With --decide: take out what the model prefers over all rows; for small models.",
        ),
        flag("--dry-run", action="store_true", help="With --map: 5 rows, and what all would take."),
        flag("--journal", metavar="FILE", help="With --map: keep what is finished, and go on."),
        flag("--max-cost", metavar="USD", type=float, help="With --map: end before it costs more."),
        flag(
            "--max-total-tokens",
            metavar="N",
            type=int,
            help="With --map: end before prompts and answers together have more tokens.",
        ),
        flag(
            "--batch-api",
            action="store_true",
            help="With --map: by the vendor's batch API, within a day and for half the price.",
        ),
        flag(
            "--cancel-batch",
            action="store_true",
            help="With --map: cancel what the vendor's batch API has of this run.",
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
    options="generation",
)

LAST = Help(
    """
    %llm_last                        the newest answer
    earlier = %llm_last 2            the one before it
""",
    (flag("number", nargs="?", type=int, default=1, help="1 is the newest (default)."),),
)
