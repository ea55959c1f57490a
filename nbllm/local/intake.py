"""What the parent asks for, made ready for the engine; runs on a thread beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nbllm.local.engine import QUEUE_LIMIT, Engine
from nbllm.local.llama.chat import ChatTemplate, Prompt, TemplateRefusalError
from nbllm.local.llama.embedder import Embedder, Job, rerank_tokens
from nbllm.local.llama.native import NativeModel
from nbllm.local.llama.sampling import Sampler
from nbllm.local.protocol import Frame
from nbllm.local.reading.output_format import OutputFormat
from nbllm.local.scheduling.lookup import Lookup
from nbllm.local.scheduling.prefixes import shared_length
from nbllm.local.scheduling.repetition import Repetition, is_watched
from nbllm.local.scheduling.tasks import Task
from nbllm.local.text import TextAssembler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Intake"]

_FIRST_TOKENS = 4


class Intake:
    """Turns the parent's frames into tasks and answers, which ``send`` takes.

    Templates and tokenizers work here, so that a long prompt does not hold up running answers.
    """

    def __init__(self, model: NativeModel, engine: Engine, send: Callable[[Frame], None]) -> None:
        bos, eos = model.vocabulary.special_texts()
        self._template = ChatTemplate(model.chat_template, bos=bos, eos=eos)
        model.vocabulary.write_out(self._template.all_marks)
        self._model, self._engine, self._send = model, engine, send
        self._embedder = Embedder(model, send)

    def handle(self, frame: Frame) -> None:
        """Do what a frame asks for, or say why not."""
        try:
            reply = getattr(self, f"_{frame['op']}")(frame)
        except TemplateRefusalError as error:
            self._refuse(frame, "template", str(error))
        except ValueError as error:
            self._refuse(frame, "engine", str(error))
        else:
            if reply is not None:
                self._send({"op": "reply", "id": frame["id"], **reply})

    def _refuse(self, frame: Frame, kind: str, problem: str, **details: Any) -> None:
        self._send({"op": "failed", "id": frame["id"], "kind": kind, "problem": problem, **details})

    def _tokens(self, prompt: Prompt) -> list[int]:
        return self._model.vocabulary.tokenize(
            prompt.text, add_special=prompt.add_special, parse_special=True
        )

    def _generate(self, frame: Frame) -> None:
        options = frame["options"]
        tools = options.get("tools", ()) if options.get("tool_choice") != "none" else ()
        effort = options.get("reasoning_effort")
        if frame.get("suffix") is not None:
            prompt = Prompt(frame["messages"][0]["content"], add_special=False)
            tokens = self._model.vocabulary.gap_between(prompt.text, frame["suffix"])
        else:
            prompt = self._template.render(frame["messages"], tools=tools, effort=effort)
            tokens = self._tokens(prompt)
        limit = self._model.context_length
        if not tokens:
            self._refuse(frame, "engine", "the prompt is empty")
        elif len(tokens) >= limit:
            self._refuse(frame, "context", "", prompt_tokens=len(tokens), context_length=limit)
        else:
            task = self._task(frame, tokens, prompt.form)
            self._send({"op": "prompt", "id": frame["id"], **prompt.form.to_frame()})
            if not self._engine.submit(task):
                task.sampler.close()
                self._refuse(frame, "busy", "", waiting=QUEUE_LIMIT)

    def _task(self, frame: Frame, tokens: list[int], form: OutputFormat) -> Task:
        options = frame["options"]
        shifts = options.get("on_full") == "shift"
        if shifts and not self._model.cells.can_shift:
            raise ValueError("this model cannot drop tokens from its context; leave out on_full")
        looks_up = options.get("prompt_lookup", True) and self._model.can_copy_prefix
        return Task(
            frame["id"],
            tokens,
            options.get("max_tokens") or (sys.maxsize if shifts else self._model.context_length),
            Sampler(options, self._model, tokens, form),
            TextAssembler(tuple(options.get("stop", ()))),
            tuple(options.get("adapters", self._model.scales)),
            background=options.get("priority") == "background",
            shifts=shifts,
            keep=self._kept_length(frame["messages"], tokens) if shifts else 0,
            lookup=Lookup() if looks_up else None,
            repetition=Repetition() if is_watched(options) else None,
        )

    def _kept_length(self, messages: list[Frame], tokens: list[int]) -> int:
        """How many tokens a shift leaves at the beginning: the system message, and a few always.

        Attention leans on the first tokens (https://arxiv.org/abs/2309.17453).
        """
        system = [message for message in messages[:1] if message["role"] == "system"]
        if not system:
            return _FIRST_TOKENS
        with suppress(TemplateRefusalError):
            begin = self._tokens(self._template.render(system))
            return max(_FIRST_TOKENS, shared_length(begin, tokens))
        return _FIRST_TOKENS

    def _cancel(self, frame: Frame) -> None:
        self._engine.cancel(frame["id"])
        self._embedder.cancel(frame["id"])

    def _count(self, frame: Frame) -> Frame:
        return {"tokens": len(self._tokens(self._template.render(frame["messages"])))}

    def _tokenize(self, frame: Frame) -> Frame:
        tokens = self._model.vocabulary.tokenize(
            frame["text"], add_special=False, parse_special=True
        )
        return {"tokens": tokens}

    def _detokenize(self, frame: Frame) -> Frame:
        vocabulary = self._model.vocabulary
        strangers = [token for token in frame["tokens"] if token not in vocabulary]
        if strangers:
            raise ValueError(f"{strangers[0]} is no token of this model's {vocabulary.size:,}")
        return {"text": vocabulary.detokenize(frame["tokens"]).decode(errors="replace")}

    def _embed(self, frame: Frame) -> None:
        vocabulary = self._model.vocabulary
        if not all(frame["texts"]):
            raise ValueError("an empty text has no embedding")
        texts = [
            vocabulary.tokenize(text, add_special=True, parse_special=False)
            for text in frame["texts"]
        ]
        if not all(texts):
            raise ValueError("a text of no token has no embedding")
        tokens = sum(map(len, texts))
        self._pool(frame, texts, lambda rows: {"vectors": rows.tolist(), "tokens": tokens})

    def _rerank(self, frame: Frame) -> None:
        texts = [
            rerank_tokens(self._model, frame["query"], document) for document in frame["documents"]
        ]
        self._pool(frame, texts, lambda rows: {"scores": rows[:, 0].tolist()})

    def _pool(
        self,
        frame: Frame,
        texts: list[list[int]],
        answer: Callable[[NDArray[np.float32]], Frame],
    ) -> None:
        limit = self._embedder.longest
        for number, tokens in enumerate(texts, 1):
            if len(tokens) > limit:
                counts = {"number": number, "tokens": len(tokens), "limit": limit}
                self._refuse(frame, "long_text", "", **counts)
                return
        self._embedder.submit(Job(frame["id"], texts, answer))
