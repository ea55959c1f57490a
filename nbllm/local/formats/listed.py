"""JSON behind a family's own marks: Hermes, Phi, Granite, Command, Apertus, Nemotron and others."""

from __future__ import annotations

from nbllm.local.formats.base import CallFormat, Json
from nbllm.local.formats.json_calls import read_json_calls, read_keyed_calls

__all__ = ["HERMES", "LISTED"]

HERMES = CallFormat(
    name="hermes",
    blocks=(("<tool_call>", "</tool_call>"),),
    read=read_json_calls,
    hints=("<tool_call>",),
    forced=('<tool_call>\n{"name": "{name}", "arguments": ', Json(), "}\n</tool_call>"),
)


def _listed(
    name: str, begin: str, end: str, *hints: str, keys: tuple[str, str] = ("name", "arguments")
) -> CallFormat:
    called, arguments = keys
    return CallFormat(
        name=name,
        blocks=((begin, end),),
        read=read_json_calls,
        hints=hints or (begin,),
        forced=(f'{begin}[{{"{called}": "{{name}}", "{arguments}": ', Json(), "}]" + end),
    )


LISTED = (
    _listed("phi", "<|tool_call|>", "<|/tool_call|>", "<|/tool_call|>"),
    _listed("granite", "<|tool_call|>", ""),
    _listed("functools", "functools", "", "functools["),
    _listed("command", "<|START_ACTION|>", "<|END_ACTION|>", keys=("tool_name", "parameters")),
    CallFormat(
        name="command-r",
        blocks=tuple((f"Action:{gap}```json", "```") for gap in ("\n", " ", "")),
        read=read_json_calls,
        hints=("Action:", "```json", '"tool_name"', "<|CHATBOT_TOKEN|>"),
        forced=(
            'Action:\n```json\n[\n    {\n        "tool_name": "{name}",\n        "parameters": ',
            Json(),
            "\n    }\n]```",
        ),
    ),
    CallFormat(
        name="apertus",
        blocks=(("<|tools_prefix|>", "<|tools_suffix|>"),),
        read=read_keyed_calls,
        hints=("<|tools_prefix|>",),
        forced=('<|tools_prefix|>[{"{name}": ', Json(), "}]<|tools_suffix|>"),
    ),
    _listed("nemotron", "<TOOLCALL>", "</TOOLCALL>"),
    _listed("tool-calls", "<tool_calls>", "</tool_calls>"),
    CallFormat(
        name="internlm",
        blocks=(("<|action_start|><|plugin|>", "<|action_end|>"),),
        read=read_json_calls,
        hints=("<|action_start|>", "<|plugin|>"),
        forced=(
            '<|action_start|><|plugin|>\n{"name": "{name}", "parameters": ',
            Json(),
            "}<|action_end|>",
        ),
        marks=("<|action_start|>", "<|plugin|>"),
    ),
    CallFormat(
        name="gigachat",
        blocks=(("function call<|role_sep|>", ""), ("<|function_call|>", "")),
        read=read_json_calls,
        hints=("function call", "<|role_sep|>"),
        forced=('function call<|role_sep|>\n{"name": "{name}", "arguments": ', Json(), "}"),
        marks=("<|role_sep|>",),
    ),
    CallFormat(
        name="granite-3.0",
        blocks=(("<function_call>", ""),),
        read=read_json_calls,
        hints=("<function_call>",),
        forced=('<function_call>{"name": "{name}", "arguments": ', Json(), "}"),
    ),
)
