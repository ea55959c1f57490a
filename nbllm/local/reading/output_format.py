"""The marks of reasoning, answers and calls that a model writes, as its chat template tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbllm.local.formats.addressed import HARMONY
from nbllm.local.formats.base import CallFormat, special_marks
from nbllm.local.formats.table import format_named
from nbllm.local.ipc.events import AnswerFormat, Dialect

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
    ``key`` is what a template has in it that knows them, where it is not the first of them.
    """

    open: str
    close: str
    key: str = ""

    def known_to(self, template: str) -> bool:
        """Whether a template has the marks."""
        return (self.key or self.open) in template

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
    Block(" to=self<|message|>", "<|eom|><|start|>assistant", key="to=self<|message|>"),  # Muse
    Block("<|open|>think<|sep|>", "<|close|>think<|sep|>", key="<|open|>"),  # Kimi K3
    Block("<|think|>", "<|end|><|begin|>assistant", key="<|think|>"),  # Solar Open
    Block("<mm:think>", "</mm:think>"),  # MiniMax M3
    Block("<think:opensource>", "</think:opensource>", key=":opensource"),  # Hunyuan 3
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
    Wrapper("<|open|>response<|sep|>", "<|close|>response<|sep|>", key="<|open|>"),  # Kimi K3
    Wrapper('<|open|>message role="assistant"<|sep|>', "<|close|>message<|sep|>", key="<|open|>"),
    Wrapper("<|content|>", "<|end|>"),  # Solar Open
    Wrapper("<|begin|>assistant", "<|end|>", key="<|content|>"),
    Wrapper("<answer>", "</answer>"),  # Hunyuan
    Wrapper("<response>", "</response>"),  # Granite 3.3
)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What to look for in an answer.

    ``calls`` is the format of tool calls where there are tools. ``thinking`` says that the prompt
    ended inside of reasoning, ``dialect`` how all is divided.
    """

    blocks: tuple[Block, ...] = ()
    wrappers: tuple[Wrapper, ...] = ()
    calls: CallFormat | None = None
    thinking: Block | None = None
    dialect: Dialect = "marks"

    @classmethod
    def from_event(cls, event: AnswerFormat) -> OutputFormat:
        """The format that an event tells of."""
        return cls(
            tuple(BLOCKS[index] for index in event.blocks),
            tuple(WRAPPERS[index] for index in event.wrappers),
            None if event.calls is None else format_named(event.calls),
            None if event.thinking is None else BLOCKS[event.thinking],
            event.dialect,
        )

    def to_event(self, id: int) -> AnswerFormat:  # noqa: A002 - the protocol's word
        """The event that tells of this format: marks by their indices in the tables."""
        return AnswerFormat(
            id,
            blocks=[BLOCKS.index(block) for block in self.blocks],
            wrappers=[WRAPPERS.index(wrapper) for wrapper in self.wrappers],
            calls=None if self.calls is None else self.calls.name,
            thinking=None if self.thinking is None else BLOCKS.index(self.thinking),
            dialect=self.dialect,
        )

    @property
    def marks(self) -> set[str]:
        """The texts that may be special tokens, which must be written out for the parser."""
        texts = [mark for block in self.blocks for mark in (block.open, block.close)]
        texts += [mark for wrapper in self.wrappers for mark in (wrapper.open, wrapper.close)]
        texts += HARMONY.marks if self.dialect == "harmony" else ()
        texts += ("<|start|><|message|><|eom|><|eot|>",) if self.dialect == "muse" else ()
        return special_marks(texts) | (self.calls.all_marks if self.calls else set())

    @property
    def answer_open(self) -> str:
        """What stands before an answer that is no call, such as one that a schema binds."""
        return _ANSWER_OPEN[self.dialect]


def format_of(template: str, prompt: str, calls: CallFormat | None) -> OutputFormat:
    """The marks that ``template`` knows; ``prompt`` is what it made.

    ``calls`` is how calls are written, None where there are no tools.
    """
    known = tuple(block for block in BLOCKS if block.known_to(template))
    end = prompt.rstrip()
    return OutputFormat(
        known,
        tuple(wrapper for wrapper in WRAPPERS if wrapper.known_to(template)),
        calls,
        next((block for block in known if end.endswith(block.open)), None),
        _dialect(template),
    )


_ANSWER_OPEN: Mapping[Dialect, str] = {
    "marks": "",
    "harmony": "<|channel|>final<|message|>",
    "muse": " to=user<|message|>",
    "functionary": "all\n",
}


def _dialect(template: str) -> Dialect:
    if "<|message|>" in template and "<|channel|>" in template:
        return "harmony"
    if "<|message|>" in template and "to=self" in template:
        return "muse"
    return "functionary" if ">>>${recipient}" in template else "marks"
