"""What a variable looks like in a prompt: a text of bounded size, or an image."""

from __future__ import annotations

import inspect
import io
import types
from typing import Any, TypeAlias

from nbllm.core.messages import image
from nbllm.core.types import ImagePart
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
from nbllm.notebook.prompts.limits import TEXT_CHARACTERS, Budget, Refused
from nbllm.notebook.prompts.scalars import weigh_scalar
from nbllm.notebook.prompts.table_text import array_text, index_text, table_text
from nbllm.notebook.prompts.value_kinds import (
    class_attribute,
    is_a,
    is_code,
    is_stdlib,
    kind_of,
    module_of,
    type_name,
)

__all__ = ["Piece", "rendered"]

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
