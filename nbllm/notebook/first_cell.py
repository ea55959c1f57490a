"""The cell that loads the extension: IPython had read it before nbllm could.

A script that ``ipython script.ipy`` runs is one such cell as a whole. Its ``%llm What is it?`` has
become a call for help on "it"; it is asked when that call comes.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable
from types import FrameType
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from nbllm.notebook.prompts.scope import caller
from nbllm.notebook.questions import typed_questions

__all__ = ["ask_first_questions"]

_HELP_CALL = re.compile(r"get_ipython\(\)\.run_line_magic\('(pinfo2?)', (['\"])(.*)\2\)\s*")


def ask_first_questions(shell: Any, magic: str) -> Callable[[], None]:
    """Have the questions asked that the rest of the running cell holds; returns what ends that.

    It ends by itself with the cell.
    """
    questions = _lost(_running_source(), magic)
    magics: dict[str, Any] = shell.magics_manager.magics["line"]
    known = {name: shell.find_line_magic(name) for name, _ in questions}
    for name, helps in known.items():
        lines = {word: found for (kind, word), found in questions.items() if kind == name}
        magics[name] = _asker(shell, lines, helps)

    def end() -> None:
        magics.update(known)
        known.clear()

    def end_with_cell() -> None:
        end()
        shell.events.unregister("post_execute", end_with_cell)

    if known:
        shell.events.register("post_execute", end_with_cell)
    return end


def _asker(
    shell: Any, questions: dict[str, list[str]], helps: Callable[[str], object]
) -> Callable[[str], None]:
    """In the place of IPython's magic for help: runs the line that the call stands for."""
    places: dict[tuple[str, int], str] = {}

    def ask(word: str) -> None:
        frame, waiting = caller(), questions.get(word, [])
        if frame is None or not waiting:
            helps(word)
            return
        place = word, frame.f_lineno
        if place not in places:
            places[place] = waiting[min(len(places), len(waiting) - 1)]
        code = compile(shell.transform_cell(places[place]), "<cell>", "exec")
        exec(code, frame.f_globals, frame.f_locals)  # noqa: S102 - the reader's own line

    return ask


def _lost(source: str, magic: str) -> dict[tuple[str, str], list[str]]:
    """The lines by the calls for help that IPython makes of them."""
    lost: dict[tuple[str, str], list[str]] = defaultdict(list)
    plain: Any = TransformerManager()  # type: ignore[no-untyped-call]
    for line in typed_questions(source, magic):
        call = _HELP_CALL.fullmatch(plain.transform_cell(line))
        if call is not None:
            lost[call[1], call[3]].append(line)
    return lost


def _running_source() -> str:
    """The cell that runs now, as typed; "" where none does."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - no event tells it in time
    while frame is not None:
        source = frame.f_locals.get("raw_cell") if _is_run(frame) else None
        if isinstance(source, str):
            return source
        frame = frame.f_back
    return ""


def _is_run(frame: FrameType) -> bool:
    name = frame.f_code.co_name
    return "run_cell" in name and str(frame.f_globals.get("__name__", "")).startswith("IPython")
