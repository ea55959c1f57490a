"""How magics explain their arguments to ``?``, and the arguments of the shorter magics."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, TypeVar

from IPython.core.magic_arguments import MagicArgumentParser

from nbllm.notebook.magic_line import HelpWanted, scaled, seconds, share

__all__ = [
    "BENCH",
    "CACHE",
    "DASHBOARD",
    "DELETE",
    "DEVICES",
    "FIT",
    "IMATRIX",
    "JOBS",
    "LOAD",
    "MODELS",
    "PLOT",
    "PULL",
    "QUANTIZE",
    "STATS",
    "TUNE",
    "UNLOAD",
    "Help",
    "flag",
    "help_of",
    "parser_for",
    "parser_of",
    "with_help",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def flag(*names: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """One argument, by what ``ArgumentParser.add_argument`` takes."""
    return names, settings


@dataclass(frozen=True, slots=True)
class Help:
    """What a magic takes, in the order of its help, and how it is used."""

    examples: str
    arguments: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = ()


def with_help(explained: Help) -> Callable[[Function], Function]:
    """Decorates a magic: ``?`` explains its arguments too, and ``--help`` prints that.

    Its parser is made when it is first needed: those of all magics would take longer than all
    else that ``%load_ext`` does.
    """

    def decorate(magic: Function) -> Function:
        @wraps(magic)
        def run(self: Any, *texts: str) -> Any:
            try:
                return magic(self, *texts)
            except HelpWanted:
                print(help_of(run))  # noqa: T201 - it was asked for

        helpful: Any = run
        helpful.explained = explained
        helpful.getdoc = lambda: help_of(run)  # which IPython asks in place of the docstring
        return helpful  # type: ignore[no-any-return]

    return decorate


def parser_of(magics: object, name: str) -> ArgumentParser:
    """The parser of the magic ``name``, which ``with_help`` decorates."""
    return parser_for(getattr(magics, name))


def parser_for(magic: Any) -> ArgumentParser:
    """The parser of a magic that ``with_help`` decorates."""
    return _parser(getattr(magic, "__func__", magic))


def help_of(magic: Any) -> str:
    """What ``?`` shows of such a magic: its flags, what it does, and examples."""
    return parser_for(magic).format_help().strip().removeprefix("::").strip()


@cache
def _parser(magic: Any) -> ArgumentParser:
    explained: Help = magic.explained
    parser: ArgumentParser = MagicArgumentParser(  # type: ignore[no-untyped-call]
        magic.__name__, description=magic.__doc__, epilog=f"Examples::\n{explained.examples}"
    )
    for names, settings in explained.arguments:
        parser.add_argument(*names, **settings)
    return parser


LOAD = Help(
    """
    %llm_load smollm2                     a name, or an unambiguous prefix of one
    %llm_load ~/models/phi-3.gguf --as phi --ctx 8192
    %llm_load qwen3 --device GPU0 --kv q8_0
    %llm_load phi --pin                   never unloaded to make room for another
    %llm_load qwen3 --keep-alive 10m
    %llm_load qwen3 --adapter style.gguf
    %llm_load phi --chat-template phi.jinja
    %llm_load qwen3-8b --draft qwen3-0.6b speculative decoding with a draft model
    %llm_load http://localhost:11434/v1   the model of a server, or a list of them
    %llm_load ollama/llama3.2             also lmstudio/, vllm/, llama-server/, openrouter/, groq/
    model = %llm_load gpt-4o --config model_config.json
    await model.generate("Hello")
""",
    (
        flag(
            "name",
            nargs="+",
            help="A model that %%llm_models lists, a .gguf file or its folder, a cloud model, or a "
            "server's: ollama/NAME, http://HOST:PORT/v1, http://HOST:PORT/v1#NAME.",
        ),
        flag("--as", metavar="ALIAS", dest="alias", help="The name to load it under."),
        flag("--ctx", metavar="N", type=int, help="Context length, in tokens."),
        flag("--device", metavar="DEVICE", help="CPU, GPU, GPU0, GPU0+GPU1 and so on."),
        flag(
            "--kv",
            choices=("f16", "q8_0", "q4_0"),
            help="KV cache type; q8_0 takes half the memory of f16, q4_0 a quarter.",
        ),
        flag(
            "--no-flash-attention",
            dest="flash_attention",
            action="store_false",
            default=None,
            help="Turn flash attention off; takes more memory.",
        ),
        flag("--threads", metavar="N", type=int, help="Number of CPU threads."),
        flag(
            "--gpu-layers",
            metavar="N",
            type=int,
            help="Number of layers to offload to GPUs; -1 for all.",
        ),
        flag("--parallel", metavar="N", type=int, help="Maximum number of concurrent requests."),
        flag(
            "--adapter",
            metavar="FILE=SCALE",
            type=scaled,
            action="append",
            help="A LoRA adapter (GGUF) for the model; the scale "
            "defaults to 1. May be given several "
            "times.",
        ),
        flag(
            "--draft",
            metavar="MODEL",
            dest="draft_model",
            help="A small draft model with the same vocabulary, for speculative decoding.",
        ),
        flag(
            "--chat-template",
            metavar="FILE",
            help="A Jinja chat template to use instead of the one in the model's file.",
        ),
        flag(
            "--batch-invariant",
            action="store_true",
            default=None,
            help="Batch invariance: answers are bit-identical whatever else is computed; slower.",
        ),
        flag(
            "--keep-alive",
            metavar="TIME",
            type=seconds,
            help="Unload it after this idle time: 90, 90s, 10m, 2h. By default it stays loaded "
            "until another model needs the memory.",
        ),
        flag(
            "--pin",
            action="store_true",
            default=None,
            help="Pin it: never evict it for another model.",
        ),
        flag("--no-pin", dest="pin", action="store_false", default=None, help="Unpin it."),
        flag(
            "--wait",
            metavar="TIME",
            type=seconds,
            help="How long to wait for busy models to free memory (default: 60 seconds).",
        ),
        flag("--config", metavar="FILE", help="A JSON model config to add first."),
    ),
)

FIT = Help(
    """
    %llm_fit                              the bundled model
    fit = %llm_fit qwen3
    fit[fit["fits"] & (fit["context (tokens)"] >= 32768)]
    %llm_fit qwen3 --quants               each quantization type: size, memory, device
""",
    (
        flag("name", nargs="?", help="A local model (default: the bundled one)."),
        flag(
            "--quants", action="store_true", help="List quantization types instead of placements."
        ),
    ),
)

QUANTIZE = Help(
    """
    %llm_quantize SmolLM2 q4_0                      into the current folder
    %llm_quantize mistral-7b.F16.gguf q4_k_m --imatrix imatrix.gguf
    %llm_quantize phi-3 q5_k_m --to ~/models --replace
    made = %llm_quantize phi-3 q8_0                 the new model's ModelInfo in made.info
""",
    (
        flag("name", help="A local model."),
        flag(
            "type",
            help="The quantization type, such as q4_k_m; %%llm_fit MODEL --quants lists them.",
        ),
        flag("--imatrix", metavar="FILE", help="An importance matrix, from %%llm_imatrix."),
        flag("--to", metavar="PATH", help="The new file, or its folder."),
        flag("--replace", action="store_true", help="Replace a file that exists."),
    ),
)

PULL = Help(
    """
    %llm_pull hf.co/unsloth/Qwen3-4B-GGUF           the best variant that fits this machine
    %llm_pull unsloth/Qwen3-4B-GGUF:Q4_K_M          this variant
    %llm_pull unsloth/gemma-3-4b-it-GGUF --companions
    variants = %llm_pull unsloth/Qwen3-4B-GGUF --list
    %llm_pull https://example.org/models/phi-4.Q4_K_M.gguf
""",
    (
        flag(
            "name",
            help="OWNER/REPOSITORY on Hugging Face, with :QUANTIZATION behind it or not, the "
            "address of one or of a file in it, or another https address of a GGUF.",
        ),
        flag("--quant", metavar="TYPE", help="The variant, such as q4_k_m, or its file."),
        flag(
            "--companions",
            action="store_true",
            help="Also its projector for images and its draft model, where there are any.",
        ),
        flag("--list", action="store_true", help="Only list the variants, as a DataFrame."),
    ),
)

DELETE = Help(
    """
    %llm_delete Qwen3-4B-Q4_K_M                     asks first
    %llm_delete Qwen3-4B-Q4_K_M --yes
""",
    (
        flag("name", help="A model that %%llm_pull brought."),
        flag("--yes", action="store_true", help="Delete it without asking."),
    ),
)

IMATRIX = Help(
    """
    %llm_imatrix SmolLM2 notes.txt                  into the current folder
    %llm_imatrix mistral-7b.F16 chats.txt --chunks 200 --to mistral.imatrix.gguf
""",
    (
        flag("name", help="A local model."),
        flag("text", help="A text file that resembles the model's prompts and answers."),
        flag(
            "--chunks",
            type=int,
            default=100,
            metavar="N",
            help="Number of chunks to use, of 512 tokens each (default: 100).",
        ),
        flag("--to", metavar="PATH", help="The new file, or its folder."),
        flag("--replace", action="store_true", help="Replace a file that exists."),
    ),
)

TUNE = Help(
    """
    %llm_tune SmolLM2                               in minutes
    %llm_tune phi-3 --max-changed 1% --thorough
    %llm_tune phi-3 --types q4_0,q8_0
    %llm_tune phi-3 --off                           its own file again
""",
    (
        flag("name", help="A local model."),
        flag(
            "--max-changed",
            type=share,
            default=0.05,
            metavar="SHARE",
            help="Share of most likely tokens that may change, as 1%% or 0.01 (default: 5%%).",
        ),
        flag("--types", metavar="TYPES", help="Try these types, separated by commas."),
        flag("--imatrix", metavar="FILE", help="An importance matrix, from %%llm_imatrix."),
        flag("--thorough", action="store_true", help="Measure speeds for longer; more exact."),
        flag("--off", action="store_true", help="Load the model's own file again from now on."),
    ),
)

CACHE = Help(
    """
    %llm_cache on                         keep and give out deterministic answers
    %llm_cache on --disk                  in a file, which later kernels use too
    %llm_cache force                      also answers with chance
    %llm_cache                            what is kept, as a DataFrame
    %llm_cache find Paris
    %llm_cache clear
""",
    (
        flag(
            "action",
            nargs="?",
            choices=("on", "off", "force", "show", "find", "clear"),
            default="show",
            help="What to do (show).",
        ),
        flag("text", nargs="*", help="With find: words of the prompt's beginning."),
        flag("--disk", action="store_true", help="With on or force: in the user's cache folder."),
        flag("--file", metavar="PATH", help="With on or force: in a file of one's own."),
    ),
)

UNLOAD = Help(
    """
    %llm_unload phi
    %llm_unload --all
""",
    (
        flag("name", nargs="?", help="The model; optional if only one is loaded."),
        flag("--all", action="store_true", help="All models."),
    ),
)

MODELS = Help(
    """
    %llm_models                           the current folder, bundled and configured models
    %llm_models --all                     and those of Hugging Face, LM Studio, Ollama, …
    %llm_models --source ollama
    %llm_models --servers                 and those of servers that run on this machine
    models = %llm_models
    models[models["file size (MiB)"] < 4096]
""",
    (
        flag(
            "--all",
            action="store_true",
            help="Also the models that other programs keep on this machine.",
        ),
        flag("--source", metavar="NAME", help="Only the models of this source, such as ollama."),
        flag(
            "--servers",
            action="store_true",
            help="Also the models of servers that run on this machine.",
        ),
    ),
)

DEVICES = Help("""
    %llm_devices
    devices = %llm_devices
    devices["free (MiB)"].max()
""")

STATS = Help(
    """
    %llm_stats                       every generation, the oldest first
    %llm_stats --summary             one row for each model and device
    %llm_stats --save stats.csv
    stats = %llm_stats
    stats.groupby("model")["speed (tokens/s)"].median()
""",
    (
        flag("--summary", action="store_true", help="Counts, medians and totals by model."),
        flag("--save", metavar="FILE", help="Write the table to a .csv or .json file."),
        flag("--clear", action="store_true", help="Clear the statistics afterwards."),
    ),
)

PLOT = Help(
    """
    %llm_plot                        four figures in one
    %llm_plot throughput             tokens/s of each device over time
    figure = %llm_plot memory --theme dark --save memory.svg
""",
    (
        flag(
            "what",
            nargs="?",
            default="all",
            choices=("all", "throughput", "distribution", "first-token", "memory"),
            help="throughput (tokens/s over time by device), distribution (decoding speeds by "
            "model), first-token (by model), memory (by device), or all.",
        ),
        flag(
            "--theme",
            default="auto",
            choices=("auto", "light", "dark"),
            help="Colours for a light or a dark page; auto works on both.",
        ),
        flag("--save", metavar="FILE", help="Write the figure to a .png, .svg or .pdf file."),
    ),
)

DASHBOARD = Help("""
    %llm_dashboard                   models, devices, running requests and a playground, live
    board = %llm_dashboard
    board.close()
""")

BENCH = Help(
    """
    %llm_bench                            the bundled model, in seconds
    %llm_bench phi-3 --thorough --plot    in minutes, and more exact
    speeds = %llm_bench ~/models/mistral-7b.Q4_K_M.gguf
""",
    (
        flag("name", nargs="?", help="A local model (default: the bundled one)."),
        flag("--thorough", action="store_true", help="Measure for minutes; more exact."),
        flag("--plot", action="store_true", help="Also show a plot."),
    ),
)

JOBS = Help(
    """
    %llm_jobs                             all jobs, as a DataFrame
    %llm_jobs wait 2                      show job 2 here, until it ends
    %llm_jobs wait                        wait for all of them
    %llm_jobs stop 2                      stop it; the text so far is kept
    %llm_jobs stop                        stop all
""",
    (
        flag(
            "action",
            nargs="?",
            choices=("list", "wait", "stop"),
            default="list",
            help="What to do (default: list).",
        ),
        flag("number", nargs="?", type=int, help="The job's number (default: all running jobs)."),
    ),
)
