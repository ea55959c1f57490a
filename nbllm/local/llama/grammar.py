"""Grammars that an answer must follow, as llama.cpp's sampler of them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from llama_cpp.llama_grammar import PRIMITIVE_RULES, BuiltinRule, SchemaConverter
from numpy.typing import NDArray

from nbllm.core.grammars.automaton import Automaton, State
from nbllm.core.grammars.gbnf import GrammarError
from nbllm.core.grammars.program import compiled
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


_ANYTHING = {"description": "anything"}  # not empty, which the converter would misread


class _Converter(SchemaConverter):
    """The bindings' converter of JSON schemas, whose texts would not always be JSON.

    It takes control characters in strings, its literals lose their backslashes, and where a schema
    allows anything, it takes objects only.
    """

    def visit(self, schema: Any, name: str) -> str:
        if schema in ({}, True, _ANYTHING):
            return self._add_primitive("value", PRIMITIVE_RULES["value"])
        rule: str = super().visit(schema, name)  # type: ignore[no-untyped-call]
        return rule

    def _format_literal(self, literal: str) -> str:
        text = json.dumps(json.loads(literal), ensure_ascii=False)
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    def _add_primitive(self, name: str, rule: BuiltinRule) -> str:
        if name == "char":
            content = rule.content.replace('[^"\\\\]', '[^"\\\\\\x00-\\x1F\\x7F]')
            rule = BuiltinRule(content, rule.deps)
        added: str = super()._add_primitive(name, rule)
        return added


def grammar_text(options: Mapping[str, Any], form: OutputFormat = _NO_FORM) -> str | None:
    """The GBNF that an answer must follow, None where it is free.

    It may reason first, as far as ``form`` knows reasoning. Of a schema, the limits of numbers,
    the patterns of property names and lengths above 500 are left to the model.
    Raises ``ValueError``.
    """
    tools, choice = options.get("tools") or (), options.get("tool_choice") or "auto"
    schema = options.get("response_schema")
    if tools and choice != "none" and (choice != "auto" or form.style == "generic"):
        if schema is not None or options.get("grammar") is not None:
            raise ValueError("an answer cannot follow both a schema and its tools; leave one out")
        begin, end = _CALL_ENDS.get(form.style or "", ("", ""))
        return _schema_grammar(_calls_schema(tools, choice, form), form, begin, end)
    if schema is None:
        return options.get("grammar")
    return _schema_grammar(schema, form, "", "")


_CALL_ENDS = {"tags": ("<tool_call>\n", "\n</tool_call>"), "mistral": ("[TOOL_CALLS][", "]")}


def _schema_grammar(schema: Any, form: OutputFormat, begin: str, end: str) -> str:
    converter = _Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)  # type: ignore[no-untyped-call]
    try:
        resolved = converter.resolve_refs(_prepared(schema), "schema")
        answer = converter.visit(resolved, "answer")
    except (KeyError, TypeError, AttributeError, RecursionError, AssertionError) as error:
        raise ValueError(f"no grammar can be made of this response_schema: {error}") from None
    rules: str = converter.format_grammar()  # type: ignore[no-untyped-call]
    parts = [_thought(form), _literal(begin), answer, _literal(end)]
    return f"{rules}\nroot ::= {' '.join(filter(None, parts))}\n"


_LONGEST = 500  # llama.cpp reads no grammar of a few thousand brackets in one another


def _prepared(schema: Any) -> Any:
    """A copy without limits of lengths that no grammar can hold, and with no empty ``items``."""
    if isinstance(schema, list):
        return [_prepared(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: _ANYTHING if key == "items" and part in ({}, True) else _prepared(part)
        for key, part in schema.items()
        if key not in ("maxLength", "maxItems") or not isinstance(part, int) or part <= _LONGEST
    }


def _thought(form: OutputFormat) -> str:
    """Reasoning up to its mark: to be finished where it is open already, else as it likes."""
    block = form.thinking or next((b for b in form.blocks if b.kind == "reasoning"), None)
    if block is None:
        return ""
    first, second = block.close[0], block.close[1]
    body = f"([^{first}] | {_literal(first)} [^{second}])* {_literal(block.close)} [\\n]*"
    return f"({body})" if form.thinking else f"({_literal(block.open)} {body})?"


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"' if text else ""


def _calls_schema(tools: Sequence[Any], choice: str, form: OutputFormat) -> dict[str, Any]:
    """A schema of one call, or of a response where a call is not asked for."""
    offered = [tool["function"] for tool in tools]
    wanted = [tool for tool in offered if choice in ("auto", "required", tool["name"])]
    if not wanted:
        raise ValueError(f"tool_choice: there is no tool {choice!r}")
    key = "parameters" if form.style == "llama" else "arguments"
    calls = [_record(name={"const": tool["name"]}, **{key: tool["parameters"]}) for tool in wanted]
    call: dict[str, Any] = {"anyOf": calls}
    if form.style != "generic":
        return call
    wrapped = _record(tool_call=call)
    return wrapped if choice != "auto" else {"anyOf": [wrapped, _record(response=_TEXT)]}


_TEXT = {"type": "string"}


def _record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
