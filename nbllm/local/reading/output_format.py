"""The marks of reasoning, answers and calls that a model writes, as its chat template tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.local.formats.base import CallFormat, special_marks
from nbllm.local.formats.harmony import HARMONY
from nbllm.local.formats.table import format_named

__all__ = ["BLOCKS", "WRAPPERS", "Block", "OutputFormat", "Wrapper", "format_of"]


@dataclass(frozen=True, slots=True)
class Block:
    """The marks around reasoning; ``anywhere`` says that it may stand behind text too.

    ``key`` is what a template has in it that knows the block, where it is not one of the marks.
    """

    open: str
    close: str
    anywhere: bool = False
    key: str = ""

    def known_to(self, template: str) -> bool:
        """Whether a template has the marks."""
        if self.key:
            return self.key in template
        return self.open.strip() in template or self.close in template


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The marks around an answer, which are not for the reader.

    Those that are words of XML count only around the whole answer: a text may mention them.
    """

    open: str
    close: str

    @property
    def is_special(self) -> bool:
        """Whether no text would have the marks in it."""
        return self.open.startswith("<|")


BLOCKS = (
    Block("<think>", "</think>"),  # DeepSeek R1, Qwen 3, GLM, Kimi, SmolLM 3
    Block("[THINK]", "[/THINK]"),  # Magistral
    Block("<seed:think>", "</seed:think>"),
    Block("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Block("<|channel>thought", "<channel|>", anywhere=True, key="<|channel>"),  # Gemma 4
    Block("<|channel|>analysis<|message|>", "<|end|><|start|>assistant", key="<|channel|>"),
    Block("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Block("<|thought_start|>", "<|thought_end|>"),  # MiniCPM 3
    Block("◁think▷", "◁/think▷"),  # Kimi-VL
    Block("<thought>", "</thought>"),  # EXAONE Deep
    Block("<reasoning>", "</reasoning>"),  # Reka
    Block(  # Granite 3.2
        "Here is my thought process:", "Here is my response:", key="Here is my thought process:"
    ),
)
WRAPPERS = (
    Wrapper("<|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Command R7B
    Wrapper("<|START_TEXT|>", "<|END_TEXT|>"),  # Cohere 2
    Wrapper("<answer>", "</answer>"),  # Hunyuan
    Wrapper("<response>", "</response>"),  # Granite 3.3
)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What to look for in an answer.

    ``calls`` is the format of tool calls where there are tools. ``thinking`` says that the prompt
    ended inside of reasoning, ``channels`` that all is in harmony's messages.
    """

    blocks: tuple[Block, ...] = ()
    wrappers: tuple[Wrapper, ...] = ()
    calls: CallFormat | None = None
    thinking: Block | None = None
    channels: bool = False

    @classmethod
    def from_frame(cls, frame: Mapping[str, Any]) -> OutputFormat:
        """The format in a frame of the protocol."""
        thinking, calls = frame["thinking"], frame["calls"]
        return cls(
            tuple(BLOCKS[place] for place in frame["blocks"]),
            tuple(WRAPPERS[place] for place in frame["wrappers"]),
            None if calls is None else format_named(calls),
            None if thinking is None else BLOCKS[thinking],
            frame["channels"],
        )

    def to_frame(self) -> dict[str, Any]:
        """What ``from_frame`` reads: marks by their places in the tables."""
        return {
            "blocks": [BLOCKS.index(block) for block in self.blocks],
            "wrappers": [WRAPPERS.index(wrapper) for wrapper in self.wrappers],
            "calls": self.calls and self.calls.name,
            "thinking": self.thinking and BLOCKS.index(self.thinking),
            "channels": self.channels,
        }

    @property
    def marks(self) -> set[str]:
        """The texts that may be special tokens, which must be written out for the parser."""
        texts = [mark for block in self.blocks for mark in (block.open, block.close)]
        texts += [mark for wrapper in self.wrappers for mark in (wrapper.open, wrapper.close)]
        texts += HARMONY.marks if self.channels else ()
        return special_marks(texts) | (self.calls.all_marks if self.calls else set())

    @property
    def answer_open(self) -> str:
        """What stands before an answer that is no call, such as one that a schema binds."""
        return "<|channel|>final<|message|>" if self.channels else ""


def format_of(template: str, prompt: str, calls: CallFormat | None) -> OutputFormat:
    """The marks that ``template`` knows; ``prompt`` is what it made.

    ``calls`` is how calls are written, None where there are no tools.
    """
    known = tuple(block for block in BLOCKS if block.known_to(template))
    end = prompt.rstrip()
    return OutputFormat(
        known,
        tuple(wrapper for wrapper in WRAPPERS if wrapper.open in template),
        calls,
        next((block for block in known if end.endswith(block.open)), None),
        "<|channel|>" in template and "<|message|>" in template,
    )
