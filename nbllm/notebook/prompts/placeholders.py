"""What stands between braces, taken apart as in an f-string: expression, conversion, format."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nbllm.core.types import ImagePart
from nbllm.notebook.prompts.bounded_texts import Written, written
from nbllm.notebook.prompts.evaluation import Budget, Refused
from nbllm.notebook.prompts.expressions import evaluate, parsed
from nbllm.notebook.prompts.methods import check_time_format
from nbllm.notebook.prompts.plain_data import SCALARS, weigh_scalar
from nbllm.notebook.prompts.rendered_values import rendered
from nbllm.notebook.prompts.value_kinds import kind_of, type_name

__all__ = ["RENDER_STEPS", "SPEC", "Piece", "Placeholder", "converted", "formatted", "taken_apart"]

Piece: TypeAlias = str | Written | ImagePart
"""What a placeholder gives way to."""

_CONVERSION = re.compile(r"(.*)!([rsa])", re.DOTALL)
_LABEL = re.compile(r"(.*[^\s=!<>])\s*=\s*", re.DOTALL)
_COLONS = 8
"""How many colons of a placeholder are tried as the one before its format."""
RENDER_STEPS = 10_000
"""What a table, an image or a container costs to put in, beside what it costs to compute."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """What stands between braces: expression, conversion and format, as in an f-string.

    ``label`` is the text of ``{x=}`` before the value. ``is_padded`` says that there are blanks
    inside the edges, as code has them.
    """

    expression: ast.expr
    conversion: str
    spec: str
    label: str = ""
    is_padded: bool = False

    @property
    def is_path(self) -> bool:
        """Whether it is a variable, or a part of one by names and fixed keys."""
        node = self.expression
        while isinstance(node, ast.Attribute | ast.Subscript):
            if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Constant):
                return False
            node = node.value
        return isinstance(node, ast.Name)

    def piece(
        self,
        variables: Mapping[str, Any],
        render: Callable[[Any], Piece],
        budget: Budget,
        holds_key: Callable[[str], bool],
    ) -> Piece:
        """The value as text or image."""
        value = evaluate(self.expression, variables, budget, holds_key)
        if kind_of(value) not in SCALARS:
            budget.spend(RENDER_STEPS)
        conversion = self.conversion or ("r" if self.label and not self.spec else "")
        if conversion:
            value = converted(value, conversion)
        if conversion or self.spec:
            return f"{self.label}{formatted(value, self.spec)}"
        return render(value)


def taken_apart(inside: str) -> Placeholder | None:
    """None where no expression with a format stands in the braces."""
    bare = inside.strip(" ")
    colons = [n for n, character in enumerate(bare) if character == ":"]
    for end in [len(bare), *colons[:_COLONS]]:
        head, spec = bare[:end], bare[end + 1 :]
        match = _CONVERSION.fullmatch(head)
        source, conversion = match.groups() if match else (head, "")
        labelled = _LABEL.fullmatch(source)
        expression = parsed(labelled[1] if labelled else source)
        if expression is not None:
            label = (inside if source == bare else source) if labelled else ""
            is_padded = bare != inside and not labelled
            is_whole = SPEC.fullmatch(spec) and not (is_padded and (spec or conversion))
            return Placeholder(expression, conversion, spec, label, is_padded) if is_whole else None
    return None


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
