"""Grammars that an answer must follow, as llama.cpp's sampler of them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from nbllm.core.grammars.automaton import Automaton, State
from nbllm.core.grammars.gbnf import GrammarError
from nbllm.core.grammars.program import compiled
from nbllm.core.schemas.rules import literal
from nbllm.core.schemas.writer import GrammarWriter
from nbllm.local.llama.vocabulary import Vocabulary
from nbllm.local.reading.output_format import OutputFormat

__all__ = ["Candidates", "Grammar", "grammar_text"]

_NO_FORM = OutputFormat()
_ROW = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """Tokens with their logits, in numpy's memory and in the form that samplers take."""

    def __init__(self, ids: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
        self._rows = np.empty(len(ids), _ROW)
        self._rows["id"], self._rows["logit"], self._rows["p"] = ids, logits, 0
        address = self._rows.ctypes.data_as(lib.llama_token_data_p)
        self._raw = lib.llama_token_data_array(address, len(ids), -1, sorted=False)

    @property
    def ids(self) -> NDArray[np.int32]:
        """The tokens, in the order in which they were given until a sampler sorts them."""
        return self._rows["id"]

    @property
    def logits(self) -> NDArray[np.float32]:
        """Their logits as the last sampler left them; -inf for what is forbidden."""
        return self._rows["logit"]

    def apply(self, sampler: Any) -> int | None:
        """Let a sampler change the logits; the token that it chose, if it chooses."""
        lib.llama_sampler_apply(sampler, ctypes.byref(self._raw))
        chosen = self._raw.selected
        return int(self._raw.data[chosen].id) if chosen >= 0 else None


class Grammar:
    """The state of a grammar after the tokens so far.

    ``text`` is GBNF whose first rule is ``root``. llama.cpp's own sampler of grammars is not used:
    it ends the process on some texts, and takes exponential time and memory on others.
    Raises ``GrammarError`` where the text is no grammar; later each method does so where the
    grammar is too ambiguous.
    """

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        try:
            self._automaton = Automaton(compiled(text, vocabulary.token_of))
            self._state = self._automaton.begin()
        except GrammarError as error:
            raise GrammarError(f"cannot read the grammar: {error}") from None

    def allowed(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of these tokens may come next."""
        return np.fromiter(map(self.allows, ids.tolist()), np.bool_, len(ids))

    def all_allowed(self) -> NDArray[np.int32]:
        """All tokens that may come next."""
        texts, ids = self._vocabulary.sorted_pieces
        found = [ids[place] for place in self._automaton.allowed(self._state, texts)]
        found += self._vocabulary.ends if self._state.accepts else ()
        if self._state.tokens:
            found += filter(self._takes, range(self._vocabulary.size))
        return np.unique(np.array(found, np.int32))

    def allows(self, token: int) -> bool:
        """Whether this token may come next."""
        if token in self._vocabulary.ends:
            return self._state.accepts
        return self._takes(token) or self._walked(token) is not None

    def accept(self, token: int) -> None:
        """Go on behind a token that is allowed."""
        if token in self._vocabulary.ends:
            return
        taken = self._automaton.take_token(self._state, token)
        state = self._automaton.joined(self._walked(token), taken)
        assert state is not None  # noqa: S101 - the contract
        self._state = state
        self._automaton.earn()

    def _takes(self, token: int) -> bool:
        return self._automaton.take_token(self._state, token) is not None

    def _walked(self, token: int) -> State | None:
        piece = self._vocabulary.piece(token)
        return self._automaton.walk(self._state, piece) if piece else None


def grammar_text(options: Mapping[str, Any], form: OutputFormat = _NO_FORM) -> str | None:
    """The GBNF that an answer must follow, None where it is free.

    It may reason first, as far as ``form`` knows reasoning. What a grammar cannot say of a schema
    is left to the model; see ``GrammarWriter``. Raises ``ValueError``.
    """
    tools, choice = options.get("tools") or (), options.get("tool_choice") or "auto"
    schema = options.get("response_schema")
    if tools and choice != "none" and (choice != "auto" or form.style == "generic"):
        if schema is not None or options.get("grammar") is not None:
            raise ValueError("an answer cannot follow both a schema and its tools; leave one out")
        return _grammar(form, lambda visit: _calls(tools, choice, form, visit))
    if schema is None:
        return options.get("grammar")
    return _grammar(form, lambda visit: visit(schema, "answer", "response_schema"))


Visit = Callable[[Any, str, str], str]
"""Adds the rules of a JSON schema under a name; returns the name of its rule. What the schema is
called in errors comes last."""


def _grammar(form: OutputFormat, answer: Callable[[Visit], str]) -> str:
    writer = GrammarWriter()

    def visit(schema: Any, name: str, called: str) -> str:
        try:
            return writer.rule(schema, name)
        except ValueError as error:
            raise ValueError(f"{called}: {error}") from None

    body = answer(visit)
    return f"{writer.text()}root ::= {f'{_thought(form)} {body}'.strip()}\n"


def _thought(form: OutputFormat) -> str:
    """Reasoning up to its mark: to be finished where it is open already, else as it likes."""
    block = form.thinking or next((b for b in form.blocks if b.kind == "reasoning"), None)
    if block is None:
        return ""
    first, second = block.close[0], block.close[1]
    body = f"([^{first}] | {literal(first)} [^{second}])* {literal(block.close)} [\\n]*"
    return f"({body})" if form.thinking else f"({literal(block.open)} {body})?"


_CALL_ENDS = {"tags": ("<tool_call>\n", "\n</tool_call>"), "mistral": ("[TOOL_CALLS][", "]")}


def _calls(tools: Sequence[Any], choice: str, form: OutputFormat, visit: Visit) -> str:
    """One call; where it is for the model to choose, a response too."""
    offered = [tool["function"] for tool in tools]
    wanted = [tool for tool in offered if choice in ("auto", "required", tool["name"])]
    if not wanted:
        raise ValueError(f"tool_choice: there is no tool {choice!r}")
    key = "parameters" if form.style == "llama" else "arguments"
    call = f"({' | '.join(_call(tool, key, visit) for tool in wanted)})"
    if form.style != "generic":
        begin, end = map(literal, _CALL_ENDS.get(form.style or "", ("", "")))
        return f"{begin} {call} {end}".strip()
    wrapped = _record(("tool_call", call))
    response = _record(("response", visit({"type": "string"}, "response", "")))
    return wrapped if choice != "auto" else f"({wrapped} | {response})"


def _call(tool: Mapping[str, Any], key: str, visit: Visit) -> str:
    called = f"the parameters of the tool {tool['name']!r}"
    arguments = visit(tool["parameters"] or {"type": "object"}, "arguments", called)
    return _record(("name", literal(json.dumps(tool["name"]))), (key, arguments))


def _record(*fields: tuple[str, str]) -> str:
    parts = [f"{literal(json.dumps(name) + ':')} ws {value}" for name, value in fields]
    inside = ' "," ws '.join(parts)
    return f'"{{" ws {inside} ws "}}"'
