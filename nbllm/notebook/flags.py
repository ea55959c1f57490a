"""How magics explain their arguments to ``?``, and the arguments of ``%llm_load``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, TypeVar

from IPython.core.magic_arguments import MagicArgumentParser

from nbllm.notebook.magic_line import HelpWanted, scaled, seconds

__all__ = [
    "LOAD",
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


SERVERS = (
    flag(
        "--rpc",
        metavar="HOST:PORT",
        action="append",
        help="A machine that runs llama.cpp's ggml-rpc-server, whose memory is used too. May be "
        "given several times. For trusted networks only.",
    ),
    flag(
        "--rpc-public",
        action="store_true",
        default=None,
        help="Allow --rpc at a public address, unencrypted.",
    ),
)

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
    %llm_load llama-70b --rpc 192.168.1.20:50052 with the memory of another machine
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
        flag(
            "--cpu-experts",
            metavar="N",
            type=int,
            help="Of a mixture of experts on GPUs, keep the experts of the first N layers in main "
            "memory; -1 for all layers.",
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
        *SERVERS,
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
