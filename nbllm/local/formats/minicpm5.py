"""MiniCPM 5: XML with CDATA around what XML would read."""

import re

from nbllm.local.formats.base import CallFormat, Marks, Parameters
from nbllm.local.formats.tagged import tag_reader

__all__ = ["MINICPM5"]

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
    read=tag_reader(_MINICPM_MARKS),
    hints=('<function name="', '<param name="'),
    forced=(
        '<function name="{name}">',
        Parameters('<param name="{key}">', "</param>", quotes=_CDATA, unquoted=("<", "&", "\n")),
        "</function>",
    ),
    values=_MINICPM_MARKS,
)
