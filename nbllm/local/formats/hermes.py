"""JSON objects between ``<tool_call>`` tags: Hermes 2, Qwen 2.5 and 3, Granite 4, EXAONE 4."""

from nbllm.local.formats.base import CallFormat, Json
from nbllm.local.formats.json_calls import read_json_calls

__all__ = ["HERMES"]

HERMES = CallFormat(
    name="hermes",
    blocks=(("<tool_call>", "</tool_call>"),),
    read=read_json_calls,
    hints=("<tool_call>",),
    forced=('<tool_call>\n{"name": "{name}", "arguments": ', Json(), "}\n</tool_call>"),
)
