"""How magics explain their arguments to ``?``, and the arguments of ``%llm_load``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

from IPython.core.magic_arguments import MagicArgumentParser

from nbllm.notebook.magic_line import Bare, HelpWanted, numeral, scaled, seconds, unescaped

if TYPE_CHECKING:
    from nbllm.core.option_table import Option

__all__ = [
    "LOAD",
    "Help",
    "OptionKind",
    "flag",
    "flagged_options",
    "help_of",
    "parser_for",
    "parser_of",
    "with_help",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Argument: TypeAlias = tuple[tuple[str, ...], dict[str, Any]]
OptionKind = Literal["generation", "load"]

_TYPED: dict[str, Callable[[str], Any]] = {
    "number": numeral,
    "text": str,
    "escaped": unescaped,
    "scaled": scaled,
}
"""How words are read; see ``nbllm.core.option_table.Kind.typed``."""


def flag(*names: str, **settings: Any) -> Argument:
    """One argument, by what ``ArgumentParser.add_argument`` takes."""
    return names, settings


class Help(NamedTuple):  # defined in a sixth of a dataclass's time, for %load_ext
    """What a magic takes, in the order of its help, and how it is used.

    Behind the ``arguments`` come those that ``declared`` imports, then the flags of all ``options``
    of that kind that have flags, or of those that ``only`` names.
    """

    examples: str
    arguments: tuple[Argument, ...] = ()
    declared: Callable[[], tuple[Argument, ...]] = tuple
    options: OptionKind | None = None
    only: tuple[str, ...] = ()


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
    declared = flagged_options(explained.options)
    wanted = {name: declared[name] for name in explained.only} or declared
    options = map(_option_argument, wanted.items())
    for names, settings in (*explained.arguments, *explained.declared(), *options):
        parser.add_argument(*names, **settings)
    return parser


@cache
def flagged_options(kind: OptionKind | None) -> dict[str, Option]:
    """The options of a kind that have flags, by the names that parsers know their values by."""
    if kind is None:
        return {}
    from nbllm.core.option_table import options_of
    from nbllm.core.types import GenerationOptions, LoadOptions

    declared = options_of(GenerationOptions if kind == "generation" else LoadOptions)
    return {name: each for name, each in declared.items() if each.flags}


def _option_argument(named: tuple[str, Option]) -> Argument:
    """The argument of an option. What it is checked for is left to the option itself."""
    name, declared = named
    kind, about = declared.kind, declared.about.replace("%", "%%") + _limits(declared)
    if kind.typed == "switch":
        action = "store_false" if declared.flags[0].startswith("--no-") else "store_true"
        return flag(*declared.flags, dest=name, action=action, default=None, help=about)
    choices = f"{{{','.join(kind.choices)}}}" if kind.choices else None
    typed = Bare(kind.choices, kind.bare) if kind.bare else _TYPED[kind.typed]
    return flag(
        *declared.flags,
        dest=name,
        metavar=declared.metavar or kind.metavar or choices,
        type=typed,
        action="append" if kind.repeats else "store",
        help=f"{about} May be given several times." if kind.repeats else about,
    )


def _limits(declared: Option) -> str:
    """Which models a generation option is for, where vendors do not follow it."""
    from nbllm.core.option_table import Backend

    if declared.backends & ~(Backend.LLAMA_CPP | Backend.SERVERS):
        return ""
    return " Local models%s only." % (" and servers" if declared.backends & Backend.SERVERS else "")


LOAD = Help(
    """
    %llm_load smollm2                     a name, or an unambiguous prefix of one
    %llm_load ~/models/phi-3.gguf --as phi --ctx 8192
    %llm_load qwen3 --device GPU0 --kv q8_0
    %llm_load phi --pin                   never unloaded to make room for another
    %llm_load qwen3 --keep-alive 10m
    %llm_load qwen3 --adapter style.gguf
    %llm_load phi --chat-template phi.jinja
    %llm_load phi --prefix-cache-disk 2GiB
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
    options="load",
)
