"""Options that only make sense together, checked before anything is asked of anybody."""

from __future__ import annotations

from nbllm.core.errors import InvalidOptionError
from nbllm.core.grammars.gbnf import GrammarError
from nbllm.core.grammars.program import compiled
from nbllm.core.options import GenerationOptions
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import shown

__all__ = ["MOST_TEXT_BYTES", "check_options", "check_size"]

MOST_TEXT_BYTES = 32 * 2**20
"""The longest text that is read at a time: the longest contexts that there are hold a fifth."""

_CHOICES = ("auto", "none", "required")
_MOST_CHECKED = 20_000
"""Characters of a grammar, which take a tenth of a second; the engine reads longer ones itself."""


def check_options(options: GenerationOptions) -> None:
    """Raise ``InvalidOptionError`` for a tool that is not there and a grammar that is none."""
    _check_tool_choice(options)
    _check_grammar(options.grammar)


def check_size(option: str, text: str) -> None:
    """Raise ``InvalidOptionError`` for a text of more than ``MOST_TEXT_BYTES``."""
    # A character has at most four bytes, so that few texts need be encoded to be measured.
    size = len(text)
    if size <= MOST_TEXT_BYTES and 4 * size > MOST_TEXT_BYTES:
        size = len(text.encode(errors="replace"))
    if size > MOST_TEXT_BYTES:
        raise InvalidOptionError(
            option,
            f"must have at most {MOST_TEXT_BYTES:,} bytes, or {MOST_TEXT_BYTES >> 20} MiB "
            f"(got at least {size:,}); split it into shorter texts",
        )


def _check_tool_choice(options: GenerationOptions) -> None:
    choice = options.tool_choice
    if choice is None or choice in ("auto", "none"):
        return
    names = [tool.name for tool in options.tools or ()]
    if not names:
        raise InvalidOptionError("tool_choice", f"{shown(choice)} requires tools; give tools=… too")
    if choice != "required" and choice not in names:
        known = ", ".join([*_CHOICES, *names[:20]])
        hint = did_you_mean(choice, names)
        problem = f"must be one of {known} (got {shown(choice)}).{hint}"
        raise InvalidOptionError("tool_choice", problem)


def _check_grammar(grammar: str | None) -> None:
    """Whether it can be read; which tokens it may name, only the model knows."""
    if grammar is None or len(grammar) > _MOST_CHECKED:
        return
    try:
        compiled(grammar, _any_token)
    except GrammarError as error:
        raise InvalidOptionError("grammar", f"cannot parse the grammar: {error}") from None


def _any_token(_: str) -> int:
    return 0
