"""The calls of tools in the ways in which models write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["read_calls", "read_response"]


def read_calls(body: str) -> Iterator[tuple[str, str]]:
    """Names with their arguments as JSON text. Raises what a broken body makes it raise."""
    body = body.strip()
    if body.startswith("<function="):
        yield from map(_xml_call, re.findall(r"<function=(.*?)</function>", body, re.DOTALL))
    elif named := re.fullmatch(
        r"([\w.-]+)\s*(?:<\|constrain\|>\w+)?<\|message\|>(.*)", body, re.DOTALL
    ):
        yield named[1], _compact(json.loads(named[2]))
    elif "[ARGS]" in body:
        for part in body.split("[TOOL_CALLS]"):
            name, arguments = part.split("[ARGS]")
            yield name.split("[CALL_ID]")[0].strip(), _compact(json.loads(arguments))
    else:
        value = json.loads(body)
        for call in value if isinstance(value, list) else [value]:
            yield _json_call(call.get("tool_call", call))


def _json_call(call: Mapping[str, Any]) -> tuple[str, str]:
    call = call.get("function", call) if isinstance(call.get("function"), dict) else call
    name = call["name"]
    arguments = call["arguments"] if "arguments" in call else call["parameters"]
    if not isinstance(name, str):
        raise TypeError("a tool's name is a text")
    return name, arguments if isinstance(arguments, str) else _compact(arguments)


def _xml_call(body: str) -> tuple[str, str]:
    """Qwen3-Coder's way: ``NAME><parameter=KEY>VALUE</parameter>…``."""
    name, _, rest = body.partition(">")
    values = re.findall(r"<parameter=(.*?)>\n?(.*?)\n?</parameter>", rest, re.DOTALL)
    return name.strip(), _compact({key: _value(text) for key, text in values})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_response(body: str) -> str | None:
    """The answer in the JSON of models whose template knows nothing of tools."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    response = value.get("response") if isinstance(value, dict) else None
    return response if isinstance(response, str) else None
