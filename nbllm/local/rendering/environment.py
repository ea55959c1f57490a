"""Jinja as chat templates expect it: that of Hugging Face's transformers.

Lists may be changed besides, as llama.cpp allows it and some templates (Kimi K2) need it.
Source: ``render_jinja_template`` of
https://github.com/huggingface/transformers/blob/main/src/transformers/utils/chat_template_utils.py
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from nbllm.local.refusals import TemplateRefusalError

__all__ = ["Source"]

_LONGEST_SOURCE = 2**20
_LONGEST_REASON = 300
_WORDS: dict[type[Exception], str] = {
    MemoryError: "it exceeds the memory limit",
    RecursionError: "it is nested too deeply",
}


class _GenerationTag(Extension):
    """``{% generation %}``, which marks the model's words for training; nothing here."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Source:
    """A compiled template. Raises ``TemplateRefusalError`` for text that is not a template.

    ``names`` are the variables that it reads. Whatever else rendering raises is the template's
    own failure, and is told as a refusal too.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST_SOURCE:
            raise TemplateRefusalError(f"its chat template is longer than {_LONGEST_SOURCE:,}")
        environment = _environment()
        try:
            self.names = find_undeclared_variables(environment.parse(text))
            self._template: Template = environment.from_string(text)
        except TemplateSyntaxError as error:
            problem = f"its chat template is not valid: {_reason(error)} (line {error.lineno})"
            raise TemplateRefusalError(problem) from None
        except Exception as error:  # noqa: BLE001 - a foreign program: nesting ends in many errors
            problem = f"its chat template is not valid: {_reason(error)}"
            raise TemplateRefusalError(problem) from None

    def render(self, values: dict[str, Any]) -> str:
        """The text; half surrogates become U+FFFD. The template works on copies of its values."""
        try:
            return _whole(self._template.render(_copied(values)))
        except Exception as error:  # noqa: BLE001 - a foreign program may raise anything
            problem = f"its chat template rejected the conversation: {_reason(error)}"
            raise TemplateRefusalError(problem) from None


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates give it by position
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """JSON as it is, where Jinja's own filter would escape it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _reason(error: Exception) -> str:
    words = _WORDS.get(type(error)) or str(error) or type(error).__name__
    return words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON]}…"


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
