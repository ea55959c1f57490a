"""Reading what models write, and the shortest text that a grammar allows."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

from nbllm.core.answer import Answer
from nbllm.core.grammars.grammar_automaton import Automaton
from nbllm.core.grammars.grammar_program import compiled
from nbllm.core.types import ToolCall
from nbllm.local.formats.base import CallFormat
from nbllm.local.reading.output_format import Dialect, OutputFormat
from nbllm.local.reading.output_parser import output_parser

WRITTEN = json.loads(
    (Path(__file__).parent / "reading" / "written.json").read_text(encoding="utf-8")
)
TOOLS = WRITTEN["tools"]
DIALECTS: dict[str, Dialect] = {
    "harmony": "harmony",
    "muse": "muse",
    "functionary-3.2": "functionary",
}


def output_format(form: CallFormat, **blocks: Any) -> OutputFormat:
    return OutputFormat(**blocks, calls=form, dialect=DIALECTS.get(form.name, "marks"))


def read(
    form: OutputFormat, pieces: list[str], tools: Any = TOOLS
) -> tuple[str, str, list[Any], list[Any]]:
    answer, events = Answer(), []
    parser = output_parser(form, answer, TOOLS)
    for piece in pieces:
        events += parser.take(piece, final=False)
    events += parser.take("", final=True)
    calls = [part for s in answer.calls if isinstance(part := s.part(), ToolCall)]
    made = [[call.name, call.parsed_arguments()] for call in calls]
    return answer.joined("reasoning"), answer.joined("text"), made, events


def cut(text: str, places: set[int]) -> list[str]:
    ends = sorted(places)
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def shortest(grammar: str) -> str:
    """The shortest text that follows a grammar, of its own characters and an "a"."""
    automaton = Automaton(compiled(grammar, lambda text: None))
    letters = sorted({*grammar, "a", "1"} - set("^*+?;"))
    todo = deque([(automaton.begin(), "")])
    seen = {id(todo[0][0])}
    while todo:
        state, text = todo.popleft()
        if state.accepts:
            return text
        for letter in (*letters, "\n"):
            automaton.earn()
            onward = automaton.walk(state, letter.encode())
            if onward is not None and id(onward) not in seen:
                seen.add(id(onward))
                todo.append((onward, text + letter))
    raise AssertionError("nothing follows the grammar")
