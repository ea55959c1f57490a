"""Functions and parameters as XML-like tags: Qwen3-Coder, Seed-OSS, MiniMax M2, DeepSeek V3.2."""

from __future__ import annotations

import re

from nbllm.local.formats.base import Call, CallFormat, NoCallError, Parameters, Tools, checked_name
from nbllm.local.formats.json_calls import decoded, read_json_calls
from nbllm.local.formats.parameters import Marks, read_parameters

__all__ = ["DSML", "MINIMAX", "QWEN_CODER", "SEED"]


class _Reader:
    """Reads functions that begin with ``begin`` (group ``name``) and end with ``end``."""

    def __init__(self, begin: str, end: str, parameter: str, close: str) -> None:
        self._begin, self._end = re.compile(begin), end
        self._marks = Marks(re.compile(parameter), close, (end,))

    def __call__(self, body: str, tools: Tools) -> list[Call]:
        """The calls in a block. Raises ``NoCallError``."""
        begins = list(self._begin.finditer(body))
        if not begins:
            return read_json_calls(body, tools)
        if body[: begins[0].start()].strip():
            raise NoCallError("text stands before the function")
        ends = [*(begin.start() for begin in begins[1:]), len(body)]
        return [
            self._call(begin["name"], body[begin.end() : end], tools)
            for begin, end in zip(begins, ends, strict=True)
        ]

    def _call(self, name: str, inside: str, tools: Tools) -> Call:
        name = checked_name(name.strip("\"' "))
        if inside.lstrip().startswith("{"):  # Llama 3.1's way: JSON inside of the tag
            (call,) = read_json_calls(f'{{"name": "{name}", "arguments": {_head(inside)}}}', tools)
            return call
        return Call(name, read_parameters(inside, self._marks, tools.get(name, {})))


def _head(text: str) -> str:
    """The JSON object that ``text`` begins with."""
    text = text.strip()
    end = text.rfind("}") + 1
    decoded(text[:end])
    return text[:end]


QWEN_CODER = CallFormat(
    name="qwen-coder",
    blocks=(("<tool_call>", "</tool_call>"), ("<function=", "</function>")),
    read=_Reader(
        r"<function=(?P<name>[^>\n]+)>",
        "</function>",
        r"<parameter=(?P<key>[^>\n]+)>",
        "</parameter>",
    ),
    hints=("<tool_call>", "<function=", "<parameter="),
    forced=(
        "<tool_call>\n<function={name}>\n",
        Parameters("<parameter={key}>\n", "\n</parameter>\n", between=""),
        "</function>\n</tool_call>",
    ),
)
SEED = CallFormat(
    name="seed",
    blocks=(("<seed:tool_call>", "</seed:tool_call>"), ("<function=", "</function>")),
    read=QWEN_CODER.read,
    hints=("<seed:tool_call>",),
    forced=(
        "<seed:tool_call>\n<function={name}>\n",
        Parameters("<parameter={key}>", "</parameter>\n", between=""),
        "</function>\n</seed:tool_call>",
    ),
)
MINIMAX = CallFormat(
    name="minimax",
    blocks=(("<minimax:tool_call>", "</minimax:tool_call>"),),
    read=_Reader(
        r"<invoke name=(?P<name>[^>\n]+)>",
        "</invoke>",
        r"<parameter name=[\"']?(?P<key>[^>\"'\n]+)[\"']?>",
        "</parameter>",
    ),
    hints=("<minimax:tool_call>",),
    forced=(
        '<minimax:tool_call>\n<invoke name="{name}">\n',
        Parameters('<parameter name="{key}">', "</parameter>\n", between=""),
        "</invoke>\n</minimax:tool_call>",
    ),
)
DSML = CallFormat(
    name="dsml",
    blocks=(
        ("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
        ("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
    ),
    read=_Reader(
        r'<｜DSML｜invoke name="(?P<name>[^"\n]+)">',
        "</｜DSML｜invoke>",
        r'<｜DSML｜parameter name="(?P<key>[^"\n]+)"(?: string="(?P<text>true|false)")?>',
        "</｜DSML｜parameter>",
    ),
    hints=("｜DSML｜",),
    forced=(
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="{name}">\n',
        Parameters(
            '<｜DSML｜parameter name="{key}" string="{text}">', "</｜DSML｜parameter>\n", between=""
        ),
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ),
    marks=("｜DSML｜",),
)
