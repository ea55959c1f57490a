"""A place in a GGUF's header from which values are read, in bounded time and memory.

Where the file is another format's, this also says which, from its first bytes.
"""

from __future__ import annotations

import operator
import re
import struct
from functools import lru_cache
from itertools import repeat
from typing import BinaryIO, Literal

from nbllm.core.errors import ModelFileError

__all__ = ["Cursor", "foreign_format", "layout"]

_AGAIN = "the server sent that instead of the model; check the address and whether it needs a login"
_CONVERT = "convert it with llama.cpp's convert_hf_to_gguf.py or download a GGUF of the model"

_FORMATS: tuple[tuple[bytes, str], ...] = (
    (rb"\Z", "is empty; download it again"),
    (rb"\s*<(?i:!doctype html|html|head|body)", f"is a web page (HTML): {_AGAIN}"),
    (rb"\s*<", f"is an XML file: {_AGAIN}"),
    (
        rb"version https://git-lfs",
        "is a Git LFS pointer, not the model itself; download the model with: git lfs pull",
    ),
    (rb".{8}\{\s*\"", f"is a safetensors file; {_CONVERT}"),
    (rb"\s*[{\[]", f"is a JSON file: {_AGAIN}"),
    (rb"PK\x03\x04", f"is a ZIP archive, perhaps a PyTorch checkpoint; unpack it or {_CONVERT}"),
    (rb"\x80[\x02-\x05]", f"is a Python pickle, perhaps a PyTorch checkpoint; {_CONVERT}"),
    (
        rb"lmgg|fmgg|tjgg",
        "is a GGML file (the format before GGUF), which llama.cpp no longer supports; "
        "download a GGUF of the model",
    ),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "is compressed; unpack it first"),
    (rb"\x00+\Z", "begins with zeros only: the download is incomplete; download it again"),
)


def foreign_format(start: bytes) -> str:
    """A predicate for the file that begins with ``start`` (some hundred bytes) and what to do."""
    for pattern, predicate in _FORMATS:
        if re.match(pattern, start, re.DOTALL):
            return predicate
    return f"begins with {start[:4]!r}"


# Far above any real header (about 20 MiB), and low enough to bound the work on a hostile one.
_MAX_HEADER_BYTES = 128 * 2**20
_WINDOW_BYTES = 2**16

_MANY_TEXTS = 1024
_SAMPLE_BYTES, _SAMPLES = 4096, 2
_MOST_KEPT_BYTES = 16 * 2**20

_VOCABULARIES: dict[tuple[str, int], bytes] = {}
"""The texts of the files read last, by byte order and number of texts."""


class Cursor:
    """A place in the file, with a window of its bytes in memory.

    With ``samples`` a vocabulary that was seen before is known by samples of it: enough for files
    as they are, not for one that was made to deceive.
    """

    def __init__(self, file: BinaryIO, size: int, model: str, *, samples: bool = False) -> None:
        self._samples = samples
        self._file, self.size, self.model = file, size, model
        self._window, self._window_offset, self._at = b"", 0, 0
        self.order = "<"
        self.reading = "the beginning"

    @property
    def offset(self) -> int:
        """The place in bytes from the file's beginning."""
        return self._window_offset + self._at

    @property
    def window(self) -> tuple[bytes, int]:
        """What of the file is in memory, and where in it this place is."""
        return self._window, self._at

    def damaged(self, problem: str) -> ModelFileError:
        """The error for a problem at this place."""
        return ModelFileError(
            self.model, f"is damaged: {problem} (in {self.reading}, at byte {self.offset})"
        )

    def move_to(self, offset: int) -> None:
        """Go on reading at ``offset``, which need not be in the window."""
        self._check(offset)
        self._at = offset - self._window_offset
        if not 0 <= self._at <= len(self._window):
            self._window, self._window_offset, self._at = b"", offset, 0

    def move_by(self, count: int) -> None:
        """Pass over what was read in ``window``."""
        self._at += count

    def _check(self, end: int) -> None:
        if end > self.size:
            raise ModelFileError(
                self.model,
                f"is truncated or damaged: {self.reading} should extend to byte {end}, "
                f"but the file ends at {self.size}. Download it again.",
            )
        if end > _MAX_HEADER_BYTES:
            raise self.damaged(f"its header is longer than {_MAX_HEADER_BYTES >> 20} MiB")

    def _fetch(self, count: int) -> None:
        """Have ``count`` bytes from here on in the window."""
        if self._at + count <= len(self._window):
            return
        start = self.offset
        self._check(start + count)
        self._file.seek(start)
        self._window, self._window_offset, self._at = b"", start, 0
        while len(self._window) < count:
            piece = self._file.read(max(_WINDOW_BYTES, count) - len(self._window))
            if not piece:
                raise self.damaged("the file was truncated while it was read")
            self._window += piece

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        at = self._at
        if at + count > len(self._window):
            self._fetch(count)
            at = self._at
        self._at = at + count
        return self._window[at : at + count]

    def numbers(self, kinds: str) -> tuple[int | float | bool, ...]:
        """The next numbers, of the kinds that ``struct`` names so."""
        form = layout(self.order + kinds)
        return form.unpack(self.take(form.size))

    def whole(self, kind: Literal["I", "Q"]) -> int:
        """The next whole number, of 4 or 8 bytes."""
        order: Literal["little", "big"] = "little" if self.order == "<" else "big"
        return int.from_bytes(self.take(4 if kind == "I" else 8), order)

    def text(self, limit: int) -> bytes:
        """The next text, as stored; one of more than ``limit`` bytes is damage."""
        count = self.whole("Q")
        if count > limit:
            raise self.damaged(f"a string of {count} bytes (at most {limit} are plausible)")
        return self.take(count)

    def skip_texts(self, count: int) -> None:
        """Pass over ``count`` texts; vocabularies have hundreds of thousands of them.

        A vocabulary that another file had too, as the quantizations of one model have, is passed
        over at once where its bytes are the same.
        """
        self._check(self.offset + count * 8)
        start, key = self.offset, (self.order, count)
        known = _VOCABULARIES.get(key, b"")
        if known and self._goes_on_with(known):
            self.move_to(start + len(known))
            return
        self._pass(count)
        size = self.offset - start
        if count >= _MANY_TEXTS and _SAMPLE_BYTES <= size <= _MOST_KEPT_BYTES:
            self.move_to(start)
            _keep(key, self.take(size))

    def _goes_on_with(self, content: bytes) -> bool:
        """Whether this comes next in the file; the window stays."""
        size, last = len(content), len(content) - _SAMPLE_BYTES
        if self.offset + size > self.size:
            return False
        if not self._is_next(content, 0, _SAMPLE_BYTES):
            return False
        places = range(last, 0, -max(last // _SAMPLES if self._samples else _SAMPLE_BYTES, 1))
        return all(self._is_next(content, at, at + _SAMPLE_BYTES) for at in places)

    def _is_next(self, content: bytes, begin: int, end: int) -> bool:
        self._file.seek(self.offset + begin)
        return self._file.read(end - begin) == content[begin:end]

    def _pass(self, count: int) -> None:
        left = count
        while left:
            self._fetch(8)
            passed, at = self._pass_short(left) or self._pass_any(left)
            left -= passed
            self.move_to(self._window_offset + at)

    def _pass_short(self, left: int) -> tuple[int, int] | None:
        """Pass over the texts in the window, taken to be shorter than 256 bytes.

        The loop is the price of the whole header, hence its bareness: it looks at the lowest
        byte of each length alone, of four texts a turn. The other seven bytes are zero where
        the window has seven zeros for each text; None where it has not (then a text is longer
        or has zeros in it), or in the other byte order.
        """
        if self.order == ">":
            return None
        at, heads, turns = self._at, self._window[:-7], repeat(None, left // 4)
        try:
            for _ in turns:
                at += heads[at] + 8
                at += heads[at] + 8
                at += heads[at] + 8
                at += heads[at] + 8
            least = most = left // 4 * 4
        except IndexError:
            least = (left // 4 - operator.length_hint(turns) - 1) * 4
            most = least + 3
        passed, rest = divmod(self._window.count(0, self._at, at), 7)
        return (passed, at) if rest == 0 < passed and least <= passed <= most else None

    def _pass_any(self, left: int) -> tuple[int, int]:
        """Pass over the texts in the window, whatever their lengths: how many, and to where."""
        length_at = layout(self.order + "Q").unpack_from
        window, at, turns = self._window, self._at, repeat(None, left)
        try:
            for _ in turns:
                at += length_at(window, at)[0] + 8
        except (struct.error, OverflowError, IndexError):
            return left - operator.length_hint(turns) - 1, at
        return left, at


def _keep(key: tuple[str, int], texts: bytes) -> None:
    _VOCABULARIES.pop(key, None)
    while sum(map(len, [*_VOCABULARIES.values(), texts])) > _MOST_KEPT_BYTES:
        _VOCABULARIES.pop(next(iter([*_VOCABULARIES])), None)
    _VOCABULARIES[key] = texts


@lru_cache(maxsize=64)
def layout(form: str) -> struct.Struct:
    """Numbers as ``struct`` lays them out, compiled once."""
    return struct.Struct(form)
