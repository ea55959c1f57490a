"""The schemas of OpenAI's strict mode, and its answers in an object around the value.

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas, with what the
vendor's own SDK makes of pydantic's schemas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nbllm.cloud.vendors.request_parts import KINDS, is_object, subschemas, tightened
from nbllm.core.answer import Answer
from nbllm.core.types import Event, FinishReason, GenerationRequest

__all__ = ["WrappedAnswer", "answer_to", "openai_schema", "strict_schema", "wraps"]

_LOOSE = ("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")
"""What OpenAI's strict mode has not."""

_ROOT = "value"
_OPENING = re.compile(r'\s*\{\s*"value"\s*:\s*')
_MAY_OPEN = re.compile(r'\s*(\{\s*("(v(a(l(u(e("(\s*(:\s*)?)?)?)?)?)?)?)?)?)?')


def wraps(schema: Mapping[str, Any] | None) -> bool:
    """Whether OpenAI is asked for an object around the value: it wants one at the root."""
    return schema is not None and ("$ref" in schema or schema.get("type") != "object")


def openai_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A schema for OpenAI, in an object if need be, and whether its strict mode can have it."""
    return strict_schema(_wrapped(schema) if wraps(schema) else schema)


def _wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``{"value": …}``, with the definitions where the references look for them."""
    moved = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    inner = {key: part for key, part in schema.items() if key not in moved}
    definitions = {**moved.pop("$defs", {}), _ROOT: inner}
    whole = {
        "type": "object",
        "properties": {"value": {"$ref": f"#/$defs/{_ROOT}"}},
        "required": ["value"],
        "additionalProperties": False,
        "$defs": definitions,
        **moved,
    }
    moved_references: dict[str, Any] = _with_references_moved(whole)
    return moved_references


def _with_references_moved(value: Any) -> Any:
    """A copy whose references to the old root lead to where that is now."""
    if isinstance(value, list | tuple):
        return [_with_references_moved(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _moved(part)
        if key == "$ref" and isinstance(part, str)
        else _with_references_moved(part)
        for key, part in value.items()
    }


def _moved(reference: str) -> str:
    stays = not reference.startswith("#") or reference.startswith(("#/$defs/", "#/definitions/"))
    return reference if stays else f"#/$defs/{_ROOT}{reference[1:]}"


def strict_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A schema for OpenAI's strict mode, and whether that mode can have it.

    Strict mode wants every object closed and every property required. An answer that follows such
    a schema follows the looser one too. An object with free keys cannot be said in strict mode:
    then the schema is given as it is, and the model does its best.
    """
    if _is_loose(schema):
        return dict(schema), False
    return tightened(schema, required=True), True


def _is_loose(schema: object) -> bool:
    if not isinstance(schema, Mapping):
        return schema is True
    is_said = schema.keys().isdisjoint(_LOOSE) and not schema.keys().isdisjoint(KINDS)
    if not is_said or len(schema.get("allOf") or ()) > 1:
        return True
    if is_object(schema):
        free = schema.get("additionalProperties")
        named = "properties" in schema or "$ref" in schema or "anyOf" in schema
        if free or (free is None and not named):
            return True
    return any(map(_is_loose, subschemas(schema)))


def answer_to(request: GenerationRequest, signer: str) -> Answer:
    """An empty answer to a request, which may come in an object; see ``openai_schema``."""
    is_wrapped = wraps(request.options.response_schema)
    return WrappedAnswer(signer) if is_wrapped else Answer(signer)


class WrappedAnswer(Answer):
    """Takes ``{"value": …}`` away from around an answer's text while it arrives.

    A text that does not begin so stays as typed: not every server follows the schema.
    """

    _held = ""
    _is_open: bool | None = None  # None: that is not sure yet
    _depth = 0
    _in_text = _is_escaped = _is_closed = False

    def text(self, more: str) -> Sequence[Event]:
        """More text, of which the inside of the object counts."""
        if self._is_open is None:
            self._held += more
            more = self._begun()
        if self._is_open:
            more = self._inside(more)
        return super().text(more)

    def _begun(self) -> str:
        """What stands behind the opening, or all, as soon as it is sure which."""
        match = _OPENING.match(self._held)
        if match is not None and match.end() < len(self._held):
            self._is_open = True
            return self._held[match.end() :]
        if _MAY_OPEN.fullmatch(self._held):
            return ""
        self._is_open = False
        return self._held

    def _inside(self, more: str) -> str:
        """The part of a piece that belongs to the value: up to the brace that closes the object."""
        if self._is_closed:
            return ""
        for at, sign in enumerate(more):
            self._note(sign)
            if self._is_closed:
                return more[:at].rstrip()
        return more

    def _note(self, sign: str) -> None:
        """Follow the value's strings and brackets."""
        if self._in_text:
            self._in_text = self._is_escaped or sign != '"'
            self._is_escaped = sign == "\\" and not self._is_escaped
        elif sign == '"':
            self._in_text = True
        elif sign in "{[":
            self._depth += 1
        elif sign in "}]":
            self._is_closed = self._depth == 0
            self._depth -= 1

    def ended(self, reason: FinishReason, raw: str | None) -> None:
        """The end marker has come; what was cut off before the value is text after all."""
        if self._is_open is None and self._held:
            super().text(self._held)
        super().ended(reason, raw)
