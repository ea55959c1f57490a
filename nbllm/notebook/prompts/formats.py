"""Conversions and formats in braces, as f-strings have them, within limits of width."""

from __future__ import annotations

import re
from typing import Any

from nbllm.core.types import ImagePart
from nbllm.notebook.prompts.bounded_texts import written
from nbllm.notebook.prompts.limits import Refused
from nbllm.notebook.prompts.methods import check_time_format
from nbllm.notebook.prompts.rendered_values import rendered
from nbllm.notebook.prompts.scalars import weigh_scalar
from nbllm.notebook.prompts.value_kinds import kind_of, type_name

__all__ = ["SPEC", "converted", "formatted"]

SPEC = re.compile(
    r"(?:.?[<>=^])?[-+ ]?z?#?0?(?P<width>\d*)[,_]?(?:\.(?P<precision>\d+))?[bcdeEfFgGnosxX%]?"
    r"|.*%[A-Za-z].*"
)
"""What can be a format: of texts and numbers, or of times."""
MAX_WIDTH, MAX_PRECISION = 1_000, 300


def converted(value: Any, conversion: str) -> str:
    """``value`` as ``!r``, ``!s`` and ``!a`` make a text of it; of bounded length."""
    if conversion == "s":
        shown = rendered(value)
        if not isinstance(shown, ImagePart):
            return shown if isinstance(shown, str) else shown.text
    text = written(value).text
    return ascii(text) if conversion == "a" and kind_of(value) == "text" else text


def formatted(value: Any, spec: str) -> str:
    """``format(value, spec)`` of a text, a number or a time. Raises ``Refused`` for all else."""
    kind = kind_of(value)
    if kind == "time" and spec:
        weigh_scalar(value)
        return format(value, check_time_format(spec))
    match = SPEC.fullmatch(spec)
    if kind not in ("text", "number") or match is None:
        raise Refused(f"a {type_name(value)} takes no format; only texts, numbers and times do")
    width, precision = (
        int(match[name] or 0) if len(match[name] or "") < 9 else 10**9
        for name in ("width", "precision")
    )
    if width > MAX_WIDTH or (precision > MAX_PRECISION and kind == "number"):
        raise Refused(
            f"a format is at most {MAX_WIDTH:,} characters wide, with {MAX_PRECISION} digits "
            "after the decimal point"
        )
    weigh_scalar(value)
    return format(value, spec)
