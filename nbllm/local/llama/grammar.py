"""Grammars that an answer must follow, as llama.cpp's sampler of them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from llama_cpp.llama_grammar import PRIMITIVE_RULES, BuiltinRule, SchemaConverter
from numpy.typing import NDArray

from nbllm.local.formats.forced import Visit, forced_call, literal, text_before
from nbllm.local.formats.llama import GENERIC
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

    ``text`` is GBNF whose first rule is ``root``. Raises ``ValueError`` where it is none.
    """

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        # llama.cpp takes an empty text for no grammar at all.
        link = lib.llama_sampler_init_grammar(vocabulary.raw, text.encode(), b"root")
        self._raw = link if text.strip() else None
        if not self._raw:
            raise ValueError("llama.cpp cannot read the grammar")

    def close(self) -> None:
        """Free it."""
        lib.llama_sampler_free(self._raw)

    def allowed(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of these tokens may come next."""
        candidates = Candidates(ids, np.zeros(len(ids), np.float32))
        candidates.apply(self._raw)
        return np.isfinite(candidates.logits)

    def allows(self, token: int) -> bool:
        """Whether this token may come next."""
        return bool(self.allowed(np.array([token], np.int32))[0])

    def accept(self, token: int) -> None:
        """Go on behind a token that is allowed; any other would end the process."""
        lib.llama_sampler_accept(self._raw, token)


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
    if tools and choice != "none" and (choice != "auto" or form.calls is GENERIC):
        if schema is not None or options.get("grammar") is not None:
            raise ValueError("an answer cannot follow both a schema and its tools; leave one out")
        return _grammar(form, lambda visit: _call(form, tools, choice, visit))
    if schema is None:
        return options.get("grammar")
    return _grammar(
        form, lambda visit: f"{literal(form.answer_open)} {visit(schema, 'answer')}".lstrip()
    )


def _call(form: OutputFormat, tools: Sequence[Any], choice: str, visit: Visit) -> str:
    """One call; where it is for the model to choose, a response too."""
    offered = [tool["function"] for tool in tools]
    wanted = [tool for tool in offered if choice in ("auto", "required", tool["name"])]
    if not wanted:
        raise ValueError(f"tool_choice: there is no tool {choice!r}")
    call = forced_call(form.calls or GENERIC, wanted, visit)
    return call if choice != "auto" else f"({call} | {visit(_RESPONSE, 'response')})"


def _grammar(form: OutputFormat, answer: Callable[[Visit], str]) -> str:
    converter = _Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)  # type: ignore[no-untyped-call]

    def visit(schema: Any, name: str) -> str:
        return converter.visit(converter.resolve_refs(_prepared(schema), name), name)

    try:
        body = answer(visit)
    except (KeyError, TypeError, AttributeError, RecursionError, AssertionError) as error:
        raise ValueError(f"no grammar can be made of this response_schema: {error}") from None
    rules: str = converter.format_grammar()  # type: ignore[no-untyped-call]
    return f"{rules}\nroot ::= {f'{_thought(form)} {body}'.lstrip()}\n"


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
