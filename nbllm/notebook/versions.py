"""What differs between the versions of IPython and ipywidgets; nothing else asks for them.

The oldest are those of Google Colab, IPython 7.34 and ipywidgets 7.7, which a notebook there
cannot exchange without a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any

from IPython.core import completer as completers

from nbllm.notebook.completion import Found

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, IPCompleter

__all__ = ["answer_where_asked", "can_be_started", "complete_with", "explain", "frame_name"]


def complete_with(
    completer: IPCompleter, find: Callable[[str, int], Found | None]
) -> Callable[[], None]:
    """Have ``completer`` offer what ``find`` finds, and nothing else beside it.

    ``find`` gets the line up to the cursor, and its number in the cell. Returns what ends that.
    """
    if hasattr(completers, "context_matcher"):
        return _put(completer.custom_matchers, _matcher(find))
    return _put(completer.magic_arg_matchers, _older_matcher(completer, find))


def _matcher(find: Callable[[str, int], Found | None]) -> Callable[..., Any]:
    """For IPython 8.6 and later."""

    @completers.context_matcher(identifier="nbllm")  # type: ignore[untyped-decorator]
    def match(context: CompletionContext) -> dict[str, Any]:
        found = find(context.text_until_cursor, context.cursor_line)
        if found is None:
            return {"completions": [], "suppress": False}
        return {
            "completions": [
                completers.SimpleCompletion(word, type="flag" if word.startswith("-") else "value")
                for word in found.words
            ],
            "matched_fragment": found.word,
            "suppress": bool(found.words),
            "ordered": True,
        }

    return match  # type: ignore[no-any-return]


def _older_matcher(
    completer: IPCompleter, find: Callable[[str, int], Found | None]
) -> Callable[[str], list[str]]:
    """For IPython 7: one of the matchers for magics' arguments, whose words stand alone.

    Its words take the place of the last part of a name that has a colon or the like in it. The
    line's number is not told; every line counts as the first.
    """
    splitter: Any = completer.splitter

    def match(line: str) -> list[str]:
        before = completer.text_until_cursor
        found = find(before, 0)
        if found is None:
            return []
        kept = len(found.word) - len(splitter.split_line(before))
        return [word[kept:] for word in found.words]

    return match


def can_be_started(play: Any) -> bool:
    """Whether the pages set a ``Play`` going when the kernel does, as from ipywidgets 8 on."""
    return bool(play.has_trait("playing"))


def explain(widget: Any, tooltip: str) -> None:
    """Have the pages show ``tooltip`` over an input, which ipywidgets 7 calls otherwise."""
    setattr(widget, "tooltip" if widget.has_trait("tooltip") else "description_tooltip", tooltip)


def frame_name(code: CodeType) -> str:
    """What the code is called in a traceback; IPython 7 gives each cell's own code a name."""
    return "<module>" if code.co_name.startswith("<cell line") else code.co_name


def _put(registered: list[Any], item: object) -> Callable[[], None]:
    registered.append(item)
    return lambda: registered.remove(item)


def answer_where_asked(widget: Any) -> Any:
    """``widget``, whose messages are handled in the subshell that the front end sent them to.

    ipykernel 7.4 hands a comm's messages to the thread that used the comm last, which may be the
    busy one; there is no public way to say otherwise.
    """
    comm = widget.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default  # noqa: SLF001
    return widget
