"""What a variable looks like in a prompt: a text of bounded size, also of a table, or an image."""

from __future__ import annotations

import inspect
import io
import sys
import types
from typing import Any, TypeAlias

from nbllm.core.messages import image
from nbllm.core.types import ImagePart
from nbllm.core.words import counted
from nbllm.notebook.prompts.attributes import fields_of, instance_data
from nbllm.notebook.prompts.bounded_texts import (
    ADDRESS,
    VALUE_CHARACTERS,
    Written,
    check_digits,
    container_of,
    cut,
    has_text,
    is_dict_view,
    written,
)
from nbllm.notebook.prompts.evaluation import TEXT_CHARACTERS, Budget, Refused
from nbllm.notebook.prompts.plain_data import SCALARS, weigh_scalar
from nbllm.notebook.prompts.value_kinds import (
    class_attribute,
    is_a,
    is_code,
    is_stdlib,
    kind_of,
    module_of,
    type_name,
)

__all__ = ["TABLE_BYTES", "rendered"]

Piece: TypeAlias = "str | Written | ImagePart"

_MIN_PIXELS = 8
_MAX_NUMBERS = 200_000_000
"""Of an array or image that is drawn; more than Pillow takes for harmless, in three colours."""
_NOTEBOOK = "__main__"
_WRAPPINGS = 20
_METACLASSES = ("type", "ABCMeta", "EnumType", "EnumMeta")


def rendered(value: Any) -> Piece:
    """``value`` as it is put into a prompt.

    Figures, PIL images, IPython's images and arrays of pixels become images. Tables are told by
    shape, types and first rows; containers and arrays are cut where they are long. Functions and
    classes of the notebook are their source. A text is itself, and an object what its class makes
    of it. Raises ``Refused`` for what no reader of a prompt could use: modules and other
    functions, iterators, which would be used up, and objects without a text.
    """
    shown = _shown(value)
    return shown.text if isinstance(shown, Written) and not shown.left_out else shown


def _shown(value: Any) -> Piece:
    if is_a(value, "builtins", "str"):
        return _text(value)
    drawn = _image(value)
    if drawn is not None:
        return drawn
    if is_a(value, "pandas.io.formats.style", "Styler"):
        return table_text(instance_data(value, "data", Budget()))
    if is_a(value, "pandas", "DataFrame", "Series"):
        return table_text(value)
    match kind_of(value):
        case "array":
            return array_text(value)
        case "index":
            return index_text(value)
        case "time":
            weigh_scalar(value)
            return str(value)
        case "none" | "number" | "range":
            check_digits(value)
            return str(value)
    if _is_source(value):
        return _source(value)
    return _object(value)


def _text(value: Any) -> str:
    text = str.__str__(str(value))  # exactly a text, whatever the class returns
    if len(text) > TEXT_CHARACTERS:
        raise Refused(
            f"a text of {len(text):,} characters is too long; a prompt takes "
            f"{TEXT_CHARACTERS >> 20} MiB of one at most"
        )
    return text


def _object(value: Any) -> Piece:
    name = type_name(value)
    if class_attribute(type(value), "__next__") is not None:
        raise Refused(f"a {name} gives its elements only once; assign list(…) of it to a variable")
    if any(is_a(value, "builtins", each) for each in ("int", "float")):
        check_digits(value)
    elif kind_of(value) == "bytes" or _has_parts(value):
        return written(value)
    if not has_text(value):
        raise Refused(f"a {name} has no text; assign the text you want to a variable")
    says = class_attribute(type(value), "__str__") is not object.__str__
    text = cut(str.__str__(str(value)), TEXT_CHARACTERS if says else VALUE_CHARACTERS)
    if ADDRESS.fullmatch(text.text):
        raise Refused(f"a {name} has no text; assign the text you want to a variable")
    return text


def _has_parts(value: Any) -> bool:
    """Whether it is written part by part, so that it can be cut."""
    is_container = container_of(value) is not None or is_dict_view(value)
    return is_container or fields_of(value, Budget()) is not None


def _is_source(value: Any) -> bool:
    """Whether ``value`` is code itself: a function, a class, a module."""
    return is_a(value, "builtins", "type") or (is_code(value) and is_stdlib(type(value)))


def _source(value: Any) -> str:
    """The source of a function or class of the notebook, found without asking either."""
    if type(value) is types.FunctionType:
        for _ in range(_WRAPPINGS):  # the function that decorators stand around
            inner = value.__dict__.get("__wrapped__")
            if type(inner) is not types.FunctionType:
                break
            value = inner
        if value.__module__ == _NOTEBOOK:
            return inspect.getsource(value.__code__)
    elif type_name(value) in _METACLASSES and module_of(value) == _NOTEBOOK:
        return inspect.getsource(value)
    raise Refused(f"a {type_name(value)} that this notebook did not define is not data")


def _image(value: Any) -> ImagePart | None:
    if type(value) is ImagePart:
        return value
    if is_a(value, "matplotlib.figure", "Figure") or is_a(value, "seaborn.axisgrid", "Grid"):
        return image(value)
    if is_a(value, "matplotlib.axes", "Axes"):
        return image(value.get_figure())
    if is_a(value, "PIL.Image", "Image"):
        _check_size(value.width * value.height)
        return image(value)
    if is_a(value, "IPython.core.display", "Image") or is_a(value, "IPython.display", "Image"):
        return image(value.data) if type(value.data) is bytes else None
    if kind_of(value) == "array" and _is_picture(value):
        return _drawn(value)
    return None


def _check_size(numbers: int) -> None:
    if numbers > _MAX_NUMBERS:
        raise Refused(f"an image of {numbers:,} numbers is too large for a prompt")


def _is_picture(array: Any) -> bool:
    """Whether an array holds pixels: rows, columns and 3 or 4 channels of bytes, or of 0 to 1."""
    if array.ndim != 3 or array.shape[2] not in (3, 4) or min(array.shape[:2]) < _MIN_PIXELS:
        return False
    _check_size(array.size)
    is_unit = array.dtype.kind == "f" and bool(((array >= 0) & (array <= 1)).all())
    return array.dtype == "uint8" or is_unit


def _drawn(array: Any) -> ImagePart:
    from PIL import Image

    pixels = array if array.dtype == "uint8" else (array * 255).round().astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return image(file.getvalue())


TABLE_BYTES = 4_000
"""What a table may take in a prompt: about a thousand tokens."""
_HEADS = (10, 5, 3, 1)
_CELL_CHARACTERS = 60
_SHOWN_COLUMNS = 1_000
_ARRAY_NUMBERS = 1_000
_ARRAY_EDGE = 3


def table_text(table: Any) -> Written:
    """A DataFrame's or Series' shape, types and as many first rows as there is room for."""
    kind = "DataFrame" if is_a(table, "pandas", "DataFrame") else "Series"
    frame = _bare(table)
    rows, columns = frame.shape
    shown_columns = frame.iloc[: _HEADS[0], :_SHOWN_COLUMNS]
    types = ", ".join(
        f"{_cell(name)}: {dtype}"
        for name, dtype in zip(
            shown_columns.columns.tolist(), shown_columns.dtypes.tolist(), strict=True
        )
    )
    head = f"{kind}: {counted(rows, 'row')}, {counted(columns, 'column')}\nTypes: {types}"
    for count in _HEADS:
        shown = min(count, rows)
        what = "All rows" if shown == rows else f"First {counted(shown, 'row')}"
        text = "\n".join([head, f"{what}, separated by |:", *_lines(shown_columns.head(shown))])
        if columns <= _SHOWN_COLUMNS and len(text.encode()) <= TABLE_BYTES:
            return Written(
                text, "" if shown == rows else f"{counted(rows - shown, 'row')} left out"
            )
    text = head.encode()[: TABLE_BYTES - 3].decode(errors="ignore")
    return Written(f"{text}…", "all rows left out")


def _bare(table: Any) -> Any:
    """The table as a DataFrame of pandas' own, without attributes that it would copy."""
    pandas = sys.modules["pandas"]
    if is_a(table, "pandas", "DataFrame"):
        return pandas.DataFrame(table, copy=False)
    return pandas.Series(table, copy=False).to_frame()


def _lines(frame: Any) -> list[str]:
    """The header and rows, as a CSV has them."""
    says_index = not is_a(frame.index, "pandas", "RangeIndex")  # which only counts
    cells = frame.copy(deep=False)
    for number, dtype in enumerate(frame.dtypes.tolist()):
        if getattr(dtype, "kind", "O") == "O":
            cells.isetitem(number, [_cell(each) for each in frame.iloc[:, number].tolist()])
    text = cells.to_csv(sep="|", float_format="%.6g", index=says_index, lineterminator="\n")
    return ["|".join(cut_cell(each) for each in line.split("|")) for line in text.splitlines()]


def _cell(value: Any) -> Any:
    """A cell that is written quickly, whatever it holds."""
    kind = kind_of(value)
    if kind == "text":
        return value[: _CELL_CHARACTERS + 1]
    if is_a(value, "numpy", "dtype") or is_a(value, "pandas.api.extensions", "ExtensionDtype"):
        return str(value)
    return value if kind in SCALARS else written(value).text[: _CELL_CHARACTERS + 1]


def cut_cell(text: str) -> str:
    """A cell of at most ``_CELL_CHARACTERS``, which ends in … where there is more."""
    return text if len(text) <= _CELL_CHARACTERS else f"{text[: _CELL_CHARACTERS - 1]}…"


def array_text(array: Any) -> Written:
    """An array as numpy writes it; of a large one the edges, with its shape and type."""
    if array.dtype.hasobject:
        return _beginning(array.flat[:_ARRAY_NUMBERS].tolist(), array.size)
    numpy = sys.modules["numpy"]
    # The notebook's own print options may have no limit, and functions of their own.
    with numpy.printoptions(threshold=_ARRAY_NUMBERS, edgeitems=_ARRAY_EDGE, formatter=None):
        text = cut(numpy.array2string(array), _ARRAY_NUMBERS * 10)
    if array.size <= _ARRAY_NUMBERS:
        return text
    shape = " x ".join(f"{length:,}" for length in array.shape)
    shown = f"array of {shape} ({array.dtype}), its edges alone:\n{text.text}"
    return Written(shown, f"most of {array.size:,} numbers left out")


def index_text(index: Any) -> Written:
    """The labels of an index, as a list."""
    return _beginning(index[:_ARRAY_NUMBERS].tolist(), len(index))


def _beginning(first: list[Any], count: int) -> Written:
    """The ``first`` of ``count`` elements."""
    text, rest = written(first), count - len(first)
    if not rest:
        return text
    left_out = f"{rest:,} more elements left out"
    return Written(f"{text.text}… [{left_out}]", f"{text.left_out}, {left_out}".strip(", "))
