"""Grammars that an answer must follow, as llama.cpp's sampler of them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from llama_cpp.llama_grammar import BuiltinRule, SchemaConverter
from numpy.typing import NDArray

from nbllm.local.vocabulary import Vocabulary

__all__ = ["Candidates", "Grammar", "grammar_text"]

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


class _Converter(SchemaConverter):
    """The bindings' converter of JSON schemas, whose texts would not always be JSON.

    It takes control characters in strings, and its literals lose their backslashes.
    """

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


def grammar_text(options: Mapping[str, Any]) -> str | None:
    """The GBNF that an answer must follow, None where it is free.

    Of a schema, the limits of numbers and the patterns of property names are left to the model.
    Raises ``ValueError``.
    """
    text: str | None = options.get("grammar")
    schema = options.get("response_schema")
    if schema is None:
        return text
    converter = _Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)  # type: ignore[no-untyped-call]
    try:
        converter.visit(converter.resolve_refs(schema, "schema"), "")  # type: ignore[no-untyped-call]
    except (KeyError, TypeError, AttributeError, RecursionError, AssertionError) as error:
        raise ValueError(f"no grammar can be made of this response_schema: {error}") from None
    grammar: str = converter.format_grammar()  # type: ignore[no-untyped-call]
    return grammar
