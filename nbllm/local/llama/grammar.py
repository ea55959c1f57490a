"""Grammars that an answer must follow, as llama.cpp's sampler of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from nbllm.core.grammars.gbnf import GrammarError
from nbllm.core.grammars.grammar_automaton import Automaton, State
from nbllm.core.grammars.grammar_program import compiled
from nbllm.core.schemas.grammar_rules import literal
from nbllm.core.schemas.grammar_writer import GrammarWriter
from nbllm.local.formats.forced import forced_call, text_before
from nbllm.local.formats.llama import GENERIC
from nbllm.local.llama.vocabulary import Vocabulary
from nbllm.local.reading.output_format import OutputFormat
from nbllm.local.request_refusals import RefusedOptionError

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
    Raises ``RefusedOptionError`` where the text is no grammar; later each method does so where the
    grammar is too ambiguous.
    """

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        try:
            self._automaton = Automaton(compiled(text, vocabulary.token_of))
            self._state = self._automaton.begin()
        except GrammarError as error:
            raise RefusedOptionError("grammar", f"cannot parse the grammar: {error}") from None

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
    is left to the model; see ``GrammarWriter``. Raises ``RefusedOptionError``.
    """
    tools, choice = options.get("tools") or (), options.get("tool_choice") or "auto"
    schema = options.get("response_schema")
    if tools and choice != "none" and (choice != "auto" or form.calls is GENERIC):
        if schema is not None or options.get("grammar") is not None:
            raise RefusedOptionError(
                "tools", "cannot be combined with a schema or grammar; leave one out"
            )
        return _grammar(form, lambda writer: _call(form, tools, choice, writer))
    if schema is None:
        return options.get("grammar")
    begin = literal(form.answer_open) if form.answer_open else ""
    return _grammar(form, lambda writer: f"{begin} {_answer(schema, writer)}")


def _answer(schema: Any, writer: GrammarWriter) -> str:
    try:
        return writer.rule(schema, "answer")
    except ValueError as error:
        raise RefusedOptionError("response_schema", str(error)) from None


def _call(form: OutputFormat, tools: Sequence[Any], choice: str, writer: GrammarWriter) -> str:
    """One call; where it is for the model to choose, a response too."""
    offered = [tool["function"] for tool in tools]
    wanted = [tool for tool in offered if choice in ("auto", "required", tool["name"])]
    if not wanted:
        raise RefusedOptionError("tool_choice", f"unknown tool {choice!r}")
    try:
        call = forced_call(form.calls or GENERIC, wanted, writer)
    except ValueError as error:
        raise RefusedOptionError("tools", str(error)) from None
    return call if choice != "auto" else f"({call} | {writer.rule(_RESPONSE, 'response')})"


def _grammar(form: OutputFormat, answer: Callable[[GrammarWriter], str]) -> str:
    writer = GrammarWriter()
    body = answer(writer)
    return f"{writer.text()}root ::= {f'{_thought(form)} {body}'.strip()}\n"


def _thought(form: OutputFormat) -> str:
    """Reasoning up to its mark: to be finished where it is open already, else as it likes."""
    block = form.thinking or next(iter(form.blocks), None)
    if block is None:
        return ""
    body = f"{text_before(block.close)} {literal(block.close)} [\\n]*"
    return f"({body})" if form.thinking else f"({literal(block.open)} {body})?"


_RESPONSE = {
    "type": "object",
    "properties": {"response": {"type": "string"}},
    "required": ["response"],
    "additionalProperties": False,
}
