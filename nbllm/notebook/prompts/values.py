"""What a variable looks like in a prompt: a text of bounded size, or an image."""

from __future__ import annotations

import inspect
import io
import sys
from pathlib import Path
from typing import Any, TypeAlias

from nbllm.core.configs.secrets import looks_like_key
from nbllm.core.errors import InvalidOptionError
from nbllm.core.images import image
from nbllm.core.types import ImagePart
from nbllm.notebook.prompts.expressions import Refused

__all__ = ["read_file", "rendered"]

Piece: TypeAlias = "str | ImagePart"

TABLE_BYTES = 4_000
"""What a table may take in a prompt: about a thousand tokens."""
FILE_BYTES = 1 << 20
_HEADS = (10, 5, 3, 1)
_CELL_CHARACTERS = 60
_PRIVATE_KEY = "PRIVATE KEY-----"
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}
_MIN_PIXELS = 8


def rendered(value: Any) -> Piece:
    """``value`` as it is put into a prompt.

    Figures, PIL images, IPython's images and arrays of pixels become images. Tables are told by
    shape, types and first rows, within ``TABLE_BYTES``. Functions and classes of the notebook are
    their source. A text is itself, all else what ``str`` makes of it, as in an f-string. Raises
    ``Refused`` for modules and other functions, which no reader of a prompt could use.
    """
    if isinstance(value, str):
        return value
    if inspect.ismodule(value) or inspect.isroutine(value) or inspect.isclass(value):
        return _source(value)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series):
        return _table(value)
    return _image(value) or format(value)


def _source(value: Any) -> str:
    if getattr(value, "__module__", None) != "__main__":
        raise Refused(f"{getattr(value, '__name__', value)} is no data, nor of this notebook")
    return inspect.getsource(value)


def _image(value: Any) -> ImagePart | None:
    if isinstance(value, ImagePart):
        return value
    if hasattr(value, "savefig") or (hasattr(value, "save") and hasattr(value, "getbands")):
        return image(value)
    if hasattr(value, "get_figure") and hasattr(value, "plot"):  # matplotlib's axes
        return image(value.get_figure())
    if type(value).__module__ == "IPython.core.display" and isinstance(
        getattr(value, "data", None), bytes
    ):
        return image(value.data)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray) and _is_picture(value):
        return _drawn(value)
    return None


def _is_picture(array: Any) -> bool:
    """Whether an array holds pixels: rows, columns and 3 or 4 channels of bytes, or of 0 to 1."""
    if array.ndim != 3 or array.shape[2] not in (3, 4) or min(array.shape[:2]) < _MIN_PIXELS:
        return False
    is_unit = array.dtype.kind == "f" and bool(((array >= 0) & (array <= 1)).all())
    return array.dtype == "uint8" or is_unit


def _drawn(array: Any) -> ImagePart:
    from PIL import Image

    pixels = array if array.dtype == "uint8" else (array * 255).round().astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return image(file.getvalue())


def _table(table: Any) -> str:
    """A DataFrame's or Series' shape, types and as many first rows as there is room for."""
    kind = type(table).__name__
    frame = table if hasattr(table, "columns") else table.to_frame()
    rows, columns = frame.shape
    says_index = type(frame.index).__name__ != "RangeIndex"  # which only counts
    types = ", ".join(f"{name}: {dtype}" for name, dtype in frame.dtypes.items())
    head = f"{kind}: {_counted(rows, 'row')}, {_counted(columns, 'column')}\nTypes: {types}"
    for count in _HEADS:
        shown = min(count, rows)
        text = frame.head(shown).to_csv(
            sep="|", float_format="%.6g", index=says_index, lineterminator="\n"
        )
        what = "All rows" if shown == rows else f"First {_counted(shown, 'row')}"
        whole = "\n".join([head, f"{what}, separated by |:", *map(_cut_row, text.splitlines())])
        if len(whole.encode()) <= TABLE_BYTES:
            return whole
    return _cut(head, TABLE_BYTES)


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'s' * (count != 1)}"


def _cut_row(line: str) -> str:
    return "|".join(_cut(cell, _CELL_CHARACTERS) for cell in line.split("|"))


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def read_file(path: str) -> Piece:
    """The text of a file, or the image in it. Raises ``InvalidOptionError`` with the remedy."""
    option, file = f"{{file:{path}}}", Path(path).expanduser()
    if file.suffix.lower() in _IMAGE_SUFFIXES:
        return image(file)
    try:
        size = file.stat().st_size
        if size > FILE_BYTES:
            raise InvalidOptionError(
                option,
                f"the file has {size / 2**20:,.1f} MiB, and a prompt takes {FILE_BYTES >> 20} MiB "
                "at most; read the part that matters into a variable",
            )
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise InvalidOptionError(option, f"{problem}; --raw sends the braces as they are") from None
    if data.startswith(b"%PDF"):
        raise InvalidOptionError(
            option, "a PDF is not read; put its text into a variable, with pypdf for example"
        )
    text = _decoded(data, option)
    if _PRIVATE_KEY in text or (file.name.startswith(".env") and looks_like_key(text)):
        raise InvalidOptionError(option, "the file holds a key, which is not sent to a model")
    return text


def _decoded(data: bytes, option: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidOptionError(
            option,
            f"this is no text in UTF-8: byte {error.start} cannot be read; "
            "images are taken as PNG, JPEG, GIF and WebP",
        ) from None
