"""The arguments of ``%llm`` and ``%%llm``, and of ``%llm_last``."""

from __future__ import annotations

from nbllm.notebook.arguments import scaled, unescaped, variable_name
from nbllm.notebook.flags import Help, flag

__all__ = ["ASK", "LAST", "OPTIONS"]

_GENERATION = (
    flag("--max-tokens", metavar="N", type=int, help="The longest answer, in tokens."),
    flag("--temperature", metavar="X", type=float, help="0 always takes the likeliest token."),
    flag("--top-p", metavar="X", type=float, help="Only tokens that make up this probability."),
    flag("--top-k", metavar="N", type=int, help="Only the N likeliest tokens; 0 is off."),
    flag("--min-p", metavar="X", type=float, help="Only tokens this likely beside the first."),
    flag("--repeat-penalty", metavar="X", type=float, help="Above 1 the model repeats less."),
    flag("--presence-penalty", metavar="X", type=float, help="Above 0: fewer words again."),
    flag("--frequency-penalty", metavar="X", type=float, help="The same, for each time they came."),
    flag("--dry-multiplier", metavar="X", type=float, help="Above 0: no repeated passages; local."),
    flag("--mirostat", metavar="N", type=int, help="1 or 2: steady surprise, local models only."),
    flag(
        "--logprobs", metavar="N", type=int, help="Each token's probability, and the N likeliest."
    ),
    flag(
        "--reasoning-effort", metavar="WORD", help="low, medium, high, none: as the model knows it."
    ),
    flag(
        "--adapter",
        dest="adapters",
        metavar="NAME=SCALE",
        type=scaled,
        action="append",
        help="A LoRA adapter that the model was loaded with, for this answer; the others are off.",
    ),
    flag("--seed", metavar="N", type=int, help="The same seed gives the same answer."),
    flag(
        "--stop",
        metavar="TEXT",
        type=unescaped,
        action="append",
        help=r"End before this text; \n is a new line. May be given several times.",
    ),
)
OPTIONS = tuple(
    settings.get("dest", names[-1].removeprefix("--").replace("-", "_"))
    for names, settings in _GENERATION
)
"""The arguments of ``ASK`` that are generation options of the same name."""

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
            help="The model to ask, for %%%%llm only; it is loaded if need be. Without a name the "
            "one used last answers, or the bundled one.",
        ),
        flag("-m", "--model", help="The model to ask, for %%llm too."),
        flag(
            "-o",
            "--output",
            metavar="VAR",
            type=variable_name,
            help="A variable for the result, besides _llm; with --bg for the job.",
        ),
        flag(
            "--continue",
            dest="go_on",
            action="store_true",
            help="Go on with the last answer where it was cut off or stopped; without a prompt.",
        ),
        flag("--bg", action="store_true", help="Answer in the background; see %%llm_jobs."),
        flag("--system", metavar="TEXT", help="Instructions that stand before the prompt."),
        flag(
            "--chat",
            metavar="NAME",
            help="Go on with this conversation; a cell that runs again replaces its turn.",
        ),
        flag(
            "--overflow",
            choices=("error", "drop-oldest", "summarise"),
            help="What becomes of turns that the context has no room for: an error (the default), "
            "leave the oldest out, or have the model sum them up.",
        ),
        flag(
            "--as",
            dest="form",
            choices=("markdown", "text", "code", "json", "dataframe", "table", "math", "diff"),
            help="The form of the answer. -o then takes the value: code goes into a new cell too, "
            "json is parsed, dataframe and table become DataFrames.",
        ),
        flag(
            "--schema",
            metavar="VAR",
            type=variable_name,
            help="Answer with JSON of this schema: a dict, a pydantic model, a dataclass, ….",
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
        flag("--raw", action="store_true", help="Send braces as they are, {name} too."),
        flag("--show-prompt", action="store_true", help="Show what would be sent, and its tokens."),
        *_GENERATION,
    ),
)

LAST = Help(
    """
    %llm_last                        the newest answer
    earlier = %llm_last 2            the one before it
""",
    (flag("number", nargs="?", type=int, default=1, help="1 is the newest, the default."),),
)
