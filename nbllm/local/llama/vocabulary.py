"""The vocabulary of a loaded model: text to tokens and back."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import llama_cpp.llama_cpp as lib

from nbllm.local.rendering.template_turns import Marks

__all__ = ["Vocabulary"]

_WORTH_A_LOOK = 50_000  # characters, which take less time than to look for the longest token

_SPECIAL = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN


class Vocabulary:
    """Reads the vocabulary of a model. ``raw`` is llama.cpp's handle, ``size`` counts tokens."""

    def __init__(self, model: Any) -> None:
        self.raw = lib.llama_model_get_vocab(model)
        self.size = int(lib.llama_vocab_n_tokens(self.raw))
        self._pieces: dict[int, bytes | None] = {}
        self._written: set[int] = set()

    def __contains__(self, token: int) -> bool:
        return 0 <= token < self.size

    def special_texts(self) -> tuple[str, str]:
        """The texts of the tokens that begin and end a text; empty where there are none."""
        ends = lib.llama_vocab_bos(self.raw), lib.llama_vocab_eos(self.raw)
        first, last = ("" if t < 0 else self.text(t).decode(errors="replace") for t in ends)
        return first, last

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        tokens = range(self.size)
        return tuple(token for token in tokens if lib.llama_vocab_is_eog(self.raw, token))

    @cached_property
    def suppressed(self) -> tuple[int, ...]:
        """The tokens that the model's file forbids in an answer."""
        count = ctypes.c_int32()
        tokens = lib.llama_vocab_get_suppress_tokens(self.raw, ctypes.byref(count))
        return tuple(tokens[: count.value]) if tokens else ()

    @cached_property
    def marks(self) -> Marks:
        """What llama.cpp reads as special tokens where it is told to parse them.

        Tokens that the model's makers added as ordinary words (``<think>`` of Qwen) are not among
        them: they are read as such in every text, as in the makers' own tokenizer.
        """
        attributes, raw = lib.llama_vocab_get_attr, self.raw  # a large vocabulary takes 0.1 s
        special = [token for token in range(self.size) if attributes(raw, token) & _SPECIAL]
        return Marks(
            lib.llama_vocab_get_text(self.raw, token).decode(errors="replace") for token in special
        )

    def _attributes(self, token: int) -> int:
        return int(lib.llama_vocab_get_attr(self.raw, token))

    @property
    def begin(self) -> list[int]:
        """What stands before a text where the model wants it, a token at most."""
        adds = lib.llama_vocab_get_add_bos(self.raw)
        return [lib.llama_vocab_bos(self.raw)] if adds else []

    @property
    def end(self) -> list[int]:
        """What stands behind a text where the model wants it, a token at most."""
        token = lib.llama_vocab_eos(self.raw)
        closing = token if token >= 0 else lib.llama_vocab_sep(self.raw)
        return [closing] if lib.llama_vocab_get_add_eos(self.raw) else []

    @property
    def between(self) -> list[int]:
        """What stands between two texts that are read together."""
        adds = lib.llama_vocab_get_add_sep(self.raw)
        return [*self.end, *([lib.llama_vocab_sep(self.raw)] if adds else [])]

    @property
    def can_fill(self) -> bool:
        """Whether there are tokens for what stands before and behind a gap, and for the gap."""
        return min(self._fill_marks) >= 0

    @property
    def _fill_marks(self) -> tuple[int, int, int]:
        marks = (lib.llama_vocab_fim_pre, lib.llama_vocab_fim_suf, lib.llama_vocab_fim_mid)
        before, behind, gap = (int(mark(self.raw)) for mark in marks)
        return before, behind, gap

    def gap_between(self, prefix: str, suffix: str) -> list[int]:
        """The prompt whose answer belongs between two texts, in the usual order of its parts."""
        before, behind, gap = self._fill_marks
        first, last = (
            self.tokenize(text, add_special=False, parse_special=False) for text in (prefix, suffix)
        )
        return [*self.begin, before, *first, behind, *last, gap]

    def exceeds(self, text: str, limit: int) -> bool:
        """Whether ``text`` has more tokens than ``limit`` by its length alone.

        llama.cpp takes minutes for a few megabytes of characters that its vocabulary does not
        have, which is not worth waiting for where the text is too long anyway. Short texts cost
        nothing.
        """
        return len(text) > _WORTH_A_LOOK and len(text) >= (limit + 1) * self._longest > 0

    @cached_property
    def _longest(self) -> int:
        """The bytes of the longest token; 0 for vocabularies that leave parts of a text out."""
        kinds = (lib.LLAMA_VOCAB_TYPE_SPM, lib.LLAMA_VOCAB_TYPE_BPE)
        if lib.llama_vocab_type(self.raw) not in kinds:
            return 0
        return max((len(self.text(token)) for token in range(self.size)), default=0)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """The tokens of ``text``; may be called from any thread."""
        data = text.encode(errors="replace")
        count = -len(data) - 8
        while count < 0:  # llama.cpp tells the room that it needs: a space may be three tokens
            tokens = (lib.llama_token * -count)()
            count = lib.llama_tokenize(
                self.raw, data, len(data), tokens, len(tokens), add_special, parse_special
            )
        return tokens[:count]

    def tokenize_prompt(self, text: str, *, add_special: bool, guard: str) -> list[int]:
        """The tokens of a prompt whose guarded marks are text; see ``template_turns.py``.

        Without a ``guard`` all marks are special tokens.
        """
        if not guard:
            return self.tokenize(text, add_special=add_special, parse_special=True)
        tokens = list(self.begin) if add_special else []
        pieces = list(self.marks.pieces(text, guard))
        for number, (piece, is_plain) in enumerate(pieces):
            if is_plain:
                piece = self._stripped(piece, tokens, pieces[number + 1 : number + 2])
            tokens += self.tokenize(piece, add_special=False, parse_special=not is_plain)
        return tokens

    def _stripped(
        self, piece: str, before: Sequence[int], behind: Sequence[tuple[str, bool]]
    ) -> str:
        """Without the spaces that special tokens beside it take along."""
        if before and self._attributes(before[-1]) & lib.LLAMA_TOKEN_ATTR_RSTRIP:
            piece = piece.lstrip()
        following = self.marks.found(behind[0][0])[:1] if behind else []
        for mark in following:
            (token, *_) = self.tokenize(mark, add_special=False, parse_special=True)
            if self._attributes(token) & lib.LLAMA_TOKEN_ATTR_LSTRIP:
                piece = piece.rstrip()
        return piece

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The bytes of ``tokens``, special ones included."""
        return b"".join(map(self.text, tokens))

    def write_out(self, marks: Iterable[str]) -> None:
        """Have ``piece`` give the text of these marks where they are special tokens."""
        for mark in marks:
            tokens = self.tokenize(mark, add_special=False, parse_special=True)
            if len(tokens) == 1:
                self._written.add(tokens[0])

    def piece(self, token: int) -> bytes | None:
        """The bytes that a generated token adds to the text; None for one that ends it."""
        if token not in self._pieces:
            ends, special = lib.llama_vocab_is_eog(self.raw, token), token in self._written
            self._pieces[token] = None if ends else self._read(token, special=special)
        return self._pieces[token]

    @cached_property
    def sorted_pieces(self) -> tuple[list[bytes], list[int]]:
        """What tokens add to a text, in order, with the tokens; those that add nothing are out."""
        pairs = ((self.piece(token), token) for token in range(self.size))
        ordered = sorted((piece, token) for piece, token in pairs if piece)
        return [piece for piece, _ in ordered], [token for _, token in ordered]

    def token_of(self, text: str) -> int | None:
        """The one token that this text is, special ones included; None where it takes several."""
        tokens = self.tokenize(text, add_special=False, parse_special=True)
        return tokens[0] if len(tokens) == 1 else None

    def text(self, token: int) -> bytes:
        """The bytes of a token, written out where it is special."""
        return self._read(token, special=True)

    def _read(self, token: int, *, special: bool) -> bytes:
        size = -64
        while size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = lib.llama_token_to_piece(self.raw, token, buffer, len(buffer), 0, special)
        return buffer.raw[:size]
