"""``Writer``: a chat template with the values that it reads besides the conversation.

Jinja is as chat templates expect it: that of Hugging Face's transformers. Lists may be changed
besides, as llama.cpp allows it and some templates (Kimi K2) need it.
Source: ``render_jinja_template`` of
https://github.com/huggingface/transformers/blob/main/src/transformers/utils/chat_template_utils.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from nbllm.local.rendering.alterations import APPENDED, Variant, altered
from nbllm.local.rendering.template_turns import HELLO, Conversation, Turn
from nbllm.local.request_refusals import TemplateRefusalError

__all__ = ["Source", "Writer"]

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


_EFFORTS = ("enable_thinking", "thinking", "reasoning_effort")
_TOOLS = ("tools", "xml_tools", "functions")  # transformers', SmolLM 3's, Functionary's
_NOTHING: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda name: {},
    lambda name: {name: None},
    lambda name: {name: ""},
)
"""Ways to say that there are no tools."""


class Writer:
    """Writes conversations by a template, once altered. ``text`` is the template's.

    ``json_tools`` gives it the tools as a JSON text, which Firefunction wants, and not as a list.
    Raises ``TemplateRefusalError`` for text that is not a template.
    """

    def __init__(self, text: str, *, bos: str, eos: str) -> None:
        self.text, self.json_tools = text, False
        self._source = Source(text)
        now = datetime.now().strftime("%b %d %Y")
        self._constants: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "datetime": now}
        self._tools = next((name for name in _TOOLS if name in self._source.names), "tools")
        self._leave_out_tools()

    def _leave_out_tools(self) -> None:
        """Where there are no tools, the name is undefined, or what makes less of it.

        ``tools|length`` takes no None, ``tools is not none`` is true of what is undefined, and
        ``"…" + functions`` takes a text only.
        """
        lengths = {}
        for number, nothing in enumerate(_NOTHING):
            with suppress(TemplateRefusalError):
                lengths[number] = len(self._written(Conversation([HELLO]), nothing(self._tools)))
        best = min(lengths, key=lambda number: (lengths[number], number), default=0)
        self._constants |= _NOTHING[best](self._tools)

    def thinking(self, effort: str | None) -> dict[str, Any]:
        """What templates call it: Qwen and many others, DeepSeek and Granite, gpt-oss.

        Raises ``TemplateRefusalError`` where this one knows nothing of it.
        """
        if effort is None:
            return {}
        if self._source.names.isdisjoint(_EFFORTS):
            raise TemplateRefusalError(
                "its chat template does not support reasoning_effort; leave it unset"
            )
        thinks = effort != "none"
        named = {"reasoning_effort": effort} if thinks else {}
        return {"enable_thinking": thinks, "thinking": thinks, **named}

    def prompt(
        self, whole: Conversation, variant: Variant, values: Mapping[str, Any], end: str
    ) -> str:
        """The text, cut behind the words to go on from; ``end`` marks their end meanwhile."""
        if not whole.is_continued:
            return self._written(altered(whole, variant), values)
        if APPENDED in variant:
            before = Conversation(whole.turns[:-1], whole.tools)
            begun: str = whole.turns[-1]["content"]
            return self._written(altered(before, variant), values) + begun
        text = self._written(altered(whole.ended(end), variant), values, answers=False)
        if end not in text:
            raise TemplateRefusalError("its chat template drops the beginning of the answer")
        return text[: text.rindex(end)].replace(end, "")

    def _written(
        self, shown: Conversation, values: Mapping[str, Any], *, answers: bool = True
    ) -> str:
        tools = {self._tools: self._form(shown.tools)} if shown.tools else {}
        return self._source.render(
            {
                **self._constants,
                "messages": list(shown.turns),
                "add_generation_prompt": answers,
                **values,
                **tools,
            }
        )

    def _form(self, tools: Sequence[Turn]) -> str | list[Turn]:
        if not self.json_tools:
            return list(tools)
        return json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
