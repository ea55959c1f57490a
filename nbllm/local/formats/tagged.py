"""Functions and parameters as XML-like tags: Qwen3-Coder, Seed-OSS, MiniMax M2 and others.

Or a name, then keys and values in turn: GLM 4.5 and later, Hunyuan 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from nbllm.local.formats.argument_values import arguments_of
from nbllm.local.formats.base import (
    Call,
    CallFormat,
    Marks,
    NoCallError,
    Parameters,
    Part,
    Tools,
    checked_name,
)
from nbllm.local.formats.call_places import Walk, Written
from nbllm.local.formats.json_calls import call_of, decoded, read_json_calls

__all__ = [
    "DSML",
    "GLM",
    "HUNYUAN",
    "KIMI_K3",
    "MINICPM5",
    "MINIMAX",
    "MUSE",
    "QWEN_CODER",
    "SEED",
]


def _tag_reader(marks: Marks) -> Callable[[str, Tools], Sequence[Part]]:
    """The reader of calls whose values stand between marks."""

    def read(body: str, tools: Tools) -> list[Part]:
        walk = Walk(body, marks, tools)
        if not walk.calls:
            return list(read_json_calls(body, tools))
        parts: list[Part] = []
        position = 0
        for written in walk.calls:
            end = written.end if written.end >= 0 else len(body)
            parts += _said(body[position : written.start])
            parts.append(_call(written, tools) or body[written.start : end])
            position = end
        parts += _said(body[position:])
        if not any(isinstance(part, Call) for part in parts):
            raise NoCallError("no call stands here")
        return parts

    return read


def _said(text: str) -> list[str]:
    return [text] if text.strip() else []


def _call(written: Written, tools: Tools) -> Call | None:
    """The call that is written; None where it is none, or one of its arguments would be lost."""
    if written.is_broken:
        return None
    try:
        name = checked_name(written.name)
        if written.json is not None:
            return call_of({"name": name, "arguments": decoded(written.json)})
        return Call(name, arguments_of(written.values, tools.get(name, {})))
    except NoCallError:
        return None


_QWEN = Marks(
    begin=re.compile(r"<function(?:=|\s+name=)(?P<name>[^<>\n]{1,200})>"),
    end="</function>",
    open=re.compile(r"<parameter(?:=|\s+name=)[\"']?(?P<key>[^<>\"'\n]{1,200})[\"']?>"),
    close="</parameter>",
)
QWEN_CODER = CallFormat(
    name="qwen-coder",
    blocks=(("<tool_call>", "</tool_call>"), ("<function=", "</function>")),
    read=_tag_reader(_QWEN),
    hints=("<tool_call>", "<function=", "<parameter="),
    forced=(
        "<tool_call>\n<function={name}>\n",
        Parameters("<parameter={key}>\n", "\n</parameter>\n"),
        "</function>\n</tool_call>",
    ),
    values=_QWEN,
)
SEED = CallFormat(
    name="seed",
    blocks=(("<seed:tool_call>", "</seed:tool_call>"), ("<function=", "</function>")),
    read=_tag_reader(_QWEN),
    hints=("<seed:tool_call>",),
    forced=(
        "<seed:tool_call>\n<function={name}>\n",
        Parameters("<parameter={key}>", "</parameter>\n"),
        "</function>\n</seed:tool_call>",
    ),
    values=_QWEN,
)


def _invoke(prefix: str, told: str = "") -> Marks:
    """The marks of a family of formats whose tags have ``prefix``; ``told`` is in a value's."""
    return Marks(
        begin=re.compile(rf"<{prefix}invoke name=(?P<name>[^<>\n]{{1,200}})>"),
        end=f"</{prefix}invoke>",
        open=re.compile(
            rf"<{prefix}parameter(?:=|\s+name=)[\"']?(?P<key>[^<>\"'\n]{{1,200}})[\"']?{told}>"
        ),
        close=f"</{prefix}parameter>",
    )


_MINIMAX, _MUSE = _invoke(""), _invoke("atem:")
_DSML = _invoke("｜DSML｜", r'(?: string="(?P<text>true|false)")?')
MINIMAX = CallFormat(
    name="minimax",
    blocks=(("<minimax:tool_call>", "</minimax:tool_call>"), ("<invoke name=", "</invoke>")),
    read=_tag_reader(_MINIMAX),
    hints=("<minimax:tool_call>",),
    forced=(
        '<minimax:tool_call>\n<invoke name="{name}">\n',
        Parameters('<parameter name="{key}">', "</parameter>\n"),
        "</invoke>\n</minimax:tool_call>",
    ),
    values=_MINIMAX,
)
MUSE = CallFormat(
    name="muse",
    blocks=(("<atem:function_calls>", "</atem:function_calls>"),),
    read=_tag_reader(_MUSE),
    hints=("<atem:function_calls>",),
    forced=(
        ' to={name}<|message|><atem:function_calls>\n<atem:invoke name="{name}">\n',
        Parameters('<atem:parameter name="{key}">', "</atem:parameter>\n"),
        "</atem:invoke>\n</atem:function_calls>",
    ),
    values=_MUSE,
)
DSML = CallFormat(
    name="dsml",
    blocks=(
        ("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
        ("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
        ("<｜DSML｜invoke name=", "</｜DSML｜invoke>"),
    ),
    read=_tag_reader(_DSML),
    hints=("｜DSML｜",),
    forced=(
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="{name}">\n',
        Parameters('<｜DSML｜parameter name="{key}" string="{text}">', "</｜DSML｜parameter>\n"),
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ),
    marks=("｜DSML｜",),
    values=_DSML,
)


_KIMI_MARKS = Marks(
    begin=re.compile(
        r'<\|open\|>call tool="(?P<name>[^"<\n]{1,200})"(?: index="\d{1,9}")?<\|sep\|>'
        r'(?:<\|open\|>json(?: type="object")?<\|sep\|>)?'
    ),
    end="<|close|>call<|sep|>",
    open=re.compile(
        r'<\|open\|>argument key="(?P<key>[^"<\n]{0,200})"(?: type="(?P<text>\w{1,20})")?<\|sep\|>'
    ),
    close="<|close|>argument<|sep|>",
)
KIMI_K3 = CallFormat(
    name="kimi-k3",
    blocks=(("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),),
    read=_tag_reader(_KIMI_MARKS),
    hints=("<|open|>", "<|close|>", "<|sep|>", "xtml"),
    forced=(
        '<|open|>tools<|sep|><|open|>call tool="{name}" index="1"<|sep|>',
        Parameters('<|open|>argument key="{key}" type="{type}"<|sep|>', "<|close|>argument<|sep|>"),
        "<|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    marks=("<|open|><|close|><|sep|>",),
    values=_KIMI_MARKS,
)


_CDATA = ("<![CDATA[", "]]>")
_MINICPM_MARKS = Marks(
    begin=re.compile(r'<function name="(?P<name>[^"<\n]{1,200})">'),
    end="</function>",
    open=re.compile(r'<param name="(?P<key>[^"<\n]{0,200})">'),
    close="</param>",
    quotes=_CDATA,
)
MINICPM5 = CallFormat(
    name="minicpm5",
    blocks=(("<function name=", "</function>"),),
    read=_tag_reader(_MINICPM_MARKS),
    hints=('<function name="', '<param name="'),
    forced=(
        '<function name="{name}">',
        Parameters('<param name="{key}">', "</param>", quotes=_CDATA, unquoted=("<", "&", "\n")),
        "</function>",
    ),
    values=_MINICPM_MARKS,
)


_GLM_MARKS = Marks(
    begin=re.compile(r"(?P<name>[^\s<>]{1,200})\s*(?=<arg_key>|</tool_call>|\Z)"),
    end="",
    open=re.compile(
        r"<arg_key>(?P<key>[^<]{0,200})(?:</arg_key>\s{0,9}(?:<arg_value>)?|<arg_value>)"
    ),
    close="</arg_value>",
)
_read_glm_tagged = _tag_reader(_GLM_MARKS)


def _read_glm(body: str, tools: Tools) -> list[Part]:
    head = body.partition("<arg_key>")[0]
    if head.lstrip().startswith(("{", "[")):
        return list(read_json_calls(body, tools))
    name = checked_name(head)
    if head == body:
        if tools and name not in tools:
            raise NoCallError(f"there is no tool {name}")
        return [Call(name, "{}")]
    return list(_read_glm_tagged(body, tools))


GLM = CallFormat(
    name="glm",
    blocks=(("<tool_call>", "</tool_call>"),),
    read=_read_glm,
    hints=("<tool_call>", "<arg_key>"),
    forced=(
        "<tool_call>{name}\n",
        Parameters("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>\n"),
        "</tool_call>",
    ),
    marks=("<arg_key></arg_key><arg_value></arg_value>",),
    values=_GLM_MARKS,
)


def _hunyuan(suffix: str) -> CallFormat:
    """Hunyuan 3's, whose marks have a suffix that its template sets."""

    def mark(name: str) -> str:
        return f"<{name}{suffix}>"

    marks = Marks(
        begin=re.compile(rf"{mark('tool_call')}(?P<name>[^<\n]{{1,200}}){mark('tool_sep')}"),
        end=mark("/tool_call"),
        open=re.compile(
            rf"{mark('arg_key')}(?P<key>[^<]{{0,200}}){mark('/arg_key')}\s{{0,9}}{mark('arg_value')}"
        ),
        close=mark("/arg_value"),
    )
    key = f"{mark('arg_key')}{{key}}{mark('/arg_key')}\n{mark('arg_value')}"
    return CallFormat(
        name=f"hunyuan{suffix}",
        blocks=((mark("tool_calls"), mark("/tool_calls")),),
        read=_tag_reader(marks),
        hints=("tool_sep", suffix or "<tool_sep>"),
        forced=(
            f"{mark('tool_calls')}\n{mark('tool_call')}{{name}}{mark('tool_sep')}\n",
            Parameters(key, mark("/arg_value") + "\n"),
            f"{mark('/tool_call')}\n{mark('/tool_calls')}",
        ),
        marks=(
            *map(mark, ("tool_call", "tool_sep", "/tool_call", "arg_key", "/arg_key")),
            *map(mark, ("arg_value", "/arg_value")),
        ),
        values=marks,
    )


HUNYUAN = (_hunyuan(":opensource"), _hunyuan(""))
