"""Kimi K3: elements between ``<|open|>``, ``<|sep|>`` and ``<|close|>``, with types."""

import re

from nbllm.local.formats.base import CallFormat, Marks, Parameters
from nbllm.local.formats.tagged import tag_reader

__all__ = ["KIMI_K3"]

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
    read=tag_reader(_KIMI_MARKS),
    hints=("<|open|>", "<|close|>", "<|sep|>", "xtml"),
    forced=(
        '<|open|>tools<|sep|><|open|>call tool="{name}" index="1"<|sep|>',
        Parameters('<|open|>argument key="{key}" type="{type}"<|sep|>', "<|close|>argument<|sep|>"),
        "<|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    marks=("<|open|><|close|><|sep|>",),
    values=_KIMI_MARKS,
)
