"""Reasoning and tool calls in what a model writes, told apart from its answer.

Each family of models has its marks, of which its chat template tells. The parser takes text in
whatever pieces it comes and gives the same whichever they are.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nbllm.core.answer import Answer, Segment
from nbllm.core.types import Event
from nbllm.local.reading.tool_calls import read_calls, read_response

__all__ = ["BLOCKS", "Block", "CallStyle", "OutputFormat", "OutputParser", "format_of"]

CallStyle = Literal["tags", "mistral", "llama", "generic"]
"""How calls are written: JSON or XML between tags, behind a mark, as the whole answer, or as the
JSON that nbllm asks for where a template knows nothing of tools."""


@dataclass(frozen=True, slots=True)
class Block:
    """Text between two marks; a block whose ``close`` is empty ends with the answer."""

    kind: Literal["reasoning", "call"]
    open: str
    close: str


BLOCKS = (
    Block("reasoning", "<think>", "</think>"),  # DeepSeek R1, Qwen 3, GLM, Kimi, SmolLM 3
    Block("reasoning", "[THINK]", "[/THINK]"),  # Magistral
    Block("reasoning", "<seed:think>", "</seed:think>"),
    Block("reasoning", "<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Block("reasoning", "<|channel>thought\n", "<channel|>"),  # Gemma 4
    Block("reasoning", "<|channel|>analysis<|message|>", "<|end|>"),  # gpt-oss
    Block("call", "<tool_call>", "</tool_call>"),  # Hermes, Qwen
    Block("call", "<|python_tag|>", ""),  # Llama 3
    Block("call", "[TOOL_CALLS]", ""),  # Mistral
    Block("call", "<|channel|>commentary to=functions.", ""),  # gpt-oss
)
_HEADERS = (  # of gpt-oss, before and behind what is for the reader
    "<|start|>assistant",
    "<|channel|>final<|message|>",
    "<|channel|>commentary<|message|>",
    "<|return|>",
)
_NOISE = re.compile("|".join(map(re.escape, _HEADERS)))
_HARMONY = "<|channel|>"
_SPECIAL = re.compile(r"<\|?[\w:]+\|?>|</[\w:]+>|\[/?[A-Z_]+\]")


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What to look for in an answer; ``thinking`` says that the prompt ended inside reasoning."""

    blocks: tuple[Block, ...] = ()
    style: CallStyle | None = None
    thinking: Block | None = None

    @classmethod
    def from_frame(cls, frame: Mapping[str, Any]) -> OutputFormat:
        """The format in a frame of the protocol."""
        thinking = frame["thinking"]
        blocks = tuple(BLOCKS[place] for place in frame["blocks"])
        return cls(blocks, frame["style"], None if thinking is None else BLOCKS[thinking])

    def to_frame(self) -> dict[str, Any]:
        """What ``from_frame`` reads: blocks by their places in ``BLOCKS``."""
        thinking = self.thinking and BLOCKS.index(self.thinking)
        return {
            "blocks": [BLOCKS.index(block) for block in self.blocks],
            "style": self.style,
            "thinking": thinking,
        }

    @property
    def marks(self) -> set[str]:
        """The texts that may be special tokens, which must be written out for the parser."""
        texts = [mark for block in self.blocks for mark in (block.open, block.close)]
        texts += ["[ARGS]", "[CALL_ID]"] if self.style == "mistral" else []
        if any(block.open.startswith(_HARMONY) for block in self.blocks):
            texts.append("<|start|><|channel|><|message|><|constrain|><|end|>")
        return {mark for text in texts for mark in _SPECIAL.findall(text)}


def format_of(template: str, prompt: str, *, tools: bool, knows_tools: bool = True) -> OutputFormat:
    """The marks that ``template`` knows; ``prompt`` is what it made.

    ``tools`` says that there are some, ``knows_tools`` that the template wrote them.
    """
    known = [
        block
        for block in BLOCKS
        if (block.kind == "reasoning" or tools) and _knows(template, block)
    ]
    end = prompt.rstrip()
    thinking = next((b for b in known if b.kind == "reasoning" and end.endswith(b.open)), None)
    style = _style(template) if knows_tools else "generic"
    return OutputFormat(tuple(known), style if tools else None, thinking)


def _knows(template: str, block: Block) -> bool:
    if block.open.startswith(_HARMONY):
        return _HARMONY in template
    return block.open.strip() in template or bool(block.close and block.close in template)


def _style(template: str) -> CallStyle:
    if "[TOOL_CALLS]" in template:
        return "mistral"
    if "<tool_call>" in template or _HARMONY in template:
        return "tags"
    return "llama" if "<|start_header_id|>" in template else "generic"


class OutputParser:
    """Tells an ``Answer`` of its text. Call ``feed`` for each piece, then ``finish``."""

    def __init__(self, form: OutputFormat, answer: Answer) -> None:
        self._form, self._answer = form, answer
        self._block = form.thinking
        self._held = ""
        self._may_be_json = form.style in ("generic", "llama")  # as long as it has said nothing

    def take(self, text: str, *, final: bool) -> Iterator[Event]:
        """The events of another piece of text, and of the answer's end behind the last."""
        yield from self.feed(text)
        if final:
            yield from self.finish()

    def feed(self, text: str) -> Iterator[Event]:
        """The events of another piece of text."""
        if not self._form.blocks and not self._form.style:
            yield from self._answer.text(text)
            return
        self._held += text
        yield from self._split(final=False)

    def finish(self) -> Iterator[Event]:
        """The events of what was held back, at the end of the answer."""
        yield from self._split(final=True)

    def _split(self, *, final: bool) -> Iterator[Event]:
        while self._held:
            if self._is_json():  # the whole answer may be a call, so all of it is waited for
                if final:
                    body, self._held = self._held, ""
                    yield from self._call_block(body, body)
                return
            step = self._inside(final=final) if self._block else self._outside(final=final)
            before = len(self._held)
            yield from step
            if len(self._held) == before:
                return

    def _is_json(self) -> bool:
        waits = self._may_be_json and self._block is None
        return waits and self._held.lstrip()[:1] in ("{", "[")

    def _say(self, text: str) -> Iterator[Event]:
        self._may_be_json &= not text.strip()
        yield from self._answer.text(self._fresh(text, "text"))

    # ------------------------------------------------------------ in a block

    def _inside(self, *, final: bool) -> Iterator[Event]:
        assert self._block is not None  # noqa: S101 - for the type checker
        text, block = self._held, self._block
        end = text.find(block.close) if block.close else -1
        if block.kind == "call":
            if end < 0 and not final:
                return
            body = text if end < 0 else text[:end]
            self._close(text, end, block)
            yield from self._call_block(
                body, f"{block.open}{body}{block.close if end >= 0 else ''}"
            )
            return
        if end < 0:
            kept = 0 if final else _open_end(text, (block.close,))
            self._held = text[len(text) - kept :]
            yield from self._answer.reasoning(self._fresh(text[: len(text) - kept], "reasoning"))
            return
        self._close(text, end, block)
        yield from self._answer.reasoning(self._fresh(text[:end], "reasoning"))

    def _close(self, text: str, end: int, block: Block) -> None:
        self._held = "" if end < 0 else text[end + len(block.close) :]
        self._block = None

    # ------------------------------------------------------------ outside

    def _outside(self, *, final: bool) -> Iterator[Event]:
        """Text up to the next block; what may be the beginning of a mark is held back."""
        noise = _NOISE.search(self._held)
        blocks = [block for block in self._form.blocks if self._may_open(block)]
        found = [
            (at, block)
            for block in blocks
            if (at := self._held.find(block.open)) >= 0
            and (block.kind == "call" or not self._held[:at].strip())
        ]
        harmony = any(block.open.startswith(_HARMONY) for block in self._form.blocks)
        start, block = min(found, key=lambda pair: pair[0], default=(-1, None))
        if harmony and noise and (start < 0 or noise.start() <= start):
            before, self._held = self._held[: noise.start()], self._held[noise.end() :]
            yield from self._say(before)
            return
        if block is not None:
            before, self._held = self._held[:start], self._held[start + len(block.open) :]
            self._block = block
            yield from self._say(before)
            return
        marks = tuple(block.open for block in blocks)
        marks += _HEADERS * harmony
        kept = 0 if final else _open_end(self._held, marks)
        text, self._held = (
            self._held[: len(self._held) - kept],
            self._held[len(self._held) - kept :],
        )
        yield from self._say(text)

    def _may_open(self, block: Block) -> bool:
        """Reasoning stands before the answer: behind it, its marks are text like any other."""
        return block.kind == "call" or not self._answer.joined("text").strip()

    def _fresh(self, text: str, kind: Literal["text", "reasoning"]) -> str:
        """Without the blank lines that stand between a mark and its text."""
        last = self._answer.segments[-1] if self._answer.segments else None
        goes_on = last is not None and last.kind == kind
        return text if goes_on or not self._form.blocks else text.lstrip()

    # ------------------------------------------------------------ calls

    def _call_block(self, body: str, raw: str) -> Iterator[Event]:
        """The calls in a block; what is none is text, so that nothing is lost."""
        try:
            calls = list(read_calls(body))
        except (ValueError, KeyError, TypeError, AttributeError):
            calls = []
        if not calls:
            yield from self._answer.text(read_response(body) or raw)
        for name, arguments in calls:
            # Mistral's templates take ids of nine letters or digits only.
            segment = self._answer.add(Segment("call", id=secrets.token_hex(5)[:9], name=name))
            yield from self._answer.call(segment, arguments, first=True)


def _open_end(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may begin one of ``marks``."""
    longest = max((len(mark) for mark in marks), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0
