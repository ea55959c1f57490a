"""The bytes of an answer, unpacked, and never more of them than a limit.

httpx unpacks a chunk in one go: 64 KiB of brotli can be gigabytes. So nbllm reads the bytes as
they came, asks for gzip at most, and unpacks that in pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

import httpx

from nbllm.core.errors import ProtocolError

__all__ = [
    "ANSWER_LIMIT",
    "FILE_LIMIT",
    "LIST_LIMIT",
    "STREAM_LIMIT",
    "chunks_of",
    "vectors_limit",
    "whole",
]

ANSWER_LIMIT = 64 * 2**20
"""Bytes of an answer that comes whole: generated images are in it."""
STREAM_LIMIT = 256 * 2**20
"""Bytes of a stream: a hundred times the longest answers of today, events and all."""
LIST_LIMIT = 16 * 2**20
"""Bytes of a count or of a page of a vendor's models; the longest lists have about one MiB."""

FILE_LIMIT = 4 * 2**30
"""Bytes of the results of a batch, which are read line by line."""

_MOST_TEXTS = 2048
_BYTES_OF_A_VECTOR = 2**18
"""8,192 numbers, the longest vectors there are, written out in decimals."""
_PIECE = 2**20
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

_Unpack = Callable[[bytes], Iterable[bytes]]


def vectors_limit(texts: int) -> int:
    """Bytes of an answer with the vectors of so many texts."""
    return 2**20 + min(texts, _MOST_TEXTS) * _BYTES_OF_A_VECTOR


async def chunks_of(
    model: str, response: httpx.Response, limit: int
) -> AsyncGenerator[bytes, None]:
    """The body in pieces of at most 1 MiB. Raises ``ProtocolError`` past ``limit`` bytes."""
    unpack = _unpacker(model, response)
    received = unpacked = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        for piece in unpack(chunk):
            unpacked += len(piece)
            if max(received, unpacked) > limit:
                raise _too_long(model, limit)
            yield piece


def _too_long(model: str, limit: int) -> ProtocolError:
    return ProtocolError(
        model, f"the response was aborted after {limit >> 20} MiB. Is base_url correct?"
    )


async def whole(model: str, response: httpx.Response, limit: int) -> bytes:
    """The whole body. Raises ``ProtocolError`` past ``limit`` bytes."""
    return b"".join([chunk async for chunk in chunks_of(model, response, limit)])


def _unpacker(model: str, response: httpx.Response) -> _Unpack:
    """How the server packed its body. Raises ``ProtocolError`` for what nobody asked it for."""
    named = response.headers.get("content-encoding", "").lower().split(",")
    packings = [name for name in map(str.strip, named) if name not in ("", "identity")]
    if not packings:
        return lambda chunk: (chunk,)
    if packings not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise ProtocolError(
            model,
            f"the server compressed its response in a way that was not requested "
            f"({', '.join(packings)[:80]}). Is base_url correct?",
        )
    return _unzipper(model)


def _unzipper(model: str) -> _Unpack:
    unzip = zlib.decompressobj(_GZIP_OR_ZLIB)

    def unpack(chunk: bytes) -> Iterator[bytes]:
        piece = b""
        while not unzip.eof and (chunk or len(piece) == _PIECE):  # a full piece may have a rest
            try:
                piece = unzip.decompress(chunk, _PIECE)
            except zlib.error:
                raise ProtocolError(
                    model, "the response is not compressed as its header says"
                ) from None
            chunk = unzip.unconsumed_tail
            yield piece
        if unzip.eof:
            yield b""  # so that what comes behind the end is counted too

    return unpack
