"""What the parent asks for, made ready for the engine; runs on a thread beside it."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nbllm.local.engine import QUEUE_LIMIT, Engine
from nbllm.local.llama.chat import ChatTemplate, Prompt, TemplateRefusalError
from nbllm.local.llama.embedder import Embedder, Job, rerank_tokens
from nbllm.local.llama.native import NativeModel
from nbllm.local.llama.sampling import Sampler
from nbllm.local.protocol import Frame, RefusedOptionError, failure_words
from nbllm.local.reading.output_format import OutputFormat
from nbllm.local.scheduling.lookup import Lookup
from nbllm.local.scheduling.prefixes import shared_length
from nbllm.local.scheduling.repetition import Repetition, is_watched
from nbllm.local.scheduling.tasks import Task
from nbllm.local.stages import Stage
from nbllm.local.text import TextAssembler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Intake"]

_FIRST_TOKENS = 4
_PREPARERS = 4  # so many grammars are made at a time
_WORTH_A_LOOK = 50_000  # characters, which take less time than to look for the longest token


class Intake:
    """Turns the parent's frames into tasks and answers, which ``send`` takes.

    Templates and tokenizers work here, so that a long prompt does not hold up running answers.
    Whatever goes wrong with a frame ends its request and no other. ``embedder_stage`` is where the
    embedder tells what it is at.
    """

    def __init__(
        self,
        model: NativeModel,
        engine: Engine,
        send: Callable[[Frame], None],
        template: ChatTemplate,
        embedder_stage: Stage | None = None,
    ) -> None:
        self._template = template
        model.vocabulary.write_out(self._template.all_marks)
        self._model, self._engine, self._send = model, engine, send
        self._embedder = Embedder(model, send, embedder_stage or Stage())
        self._lock = threading.Lock()
        self._preparing, self._cancelled = set[int](), set[int]()
        self._preparers = ThreadPoolExecutor(_PREPARERS, "nbllm-prepare")
        self._services: Mapping[str, Callable[[Frame], Frame | None]] = {
            "generate": self._generate,
            "cancel": self._cancel,
            "count": self._count,
            "tokenize": self._tokenize,
            "detokenize": self._detokenize,
            "embed": self._embed,
            "rerank": self._rerank,
        }

    def handle(self, frame: Frame) -> None:
        """Do what a frame asks for, or say why not.

        A grammar may take seconds to be made, so that an answer that needs one is prepared on
        another thread.
        """
        if _is_bound(frame):
            with self._lock:
                self._preparing.add(frame["id"])
            self._preparers.submit(self._prepare, frame)
        else:
            self._serve(frame)

    def _prepare(self, frame: Frame) -> None:
        try:
            self._serve(frame)
        finally:
            with self._lock:
                self._preparing.discard(frame["id"])
                self._cancelled.discard(frame["id"])

    def _serve(self, frame: Frame) -> None:
        try:
            _check_fields(frame)
            reply = self._services[frame["op"]](frame)
            if reply is not None:
                self._send({"op": "reply", "id": frame["id"], **reply})
        except TemplateRefusalError as error:
            self._refuse(frame, "template", str(error))
        except RefusedOptionError as error:
            self._refuse(frame, "option", str(error), option=error.option)
        except ValueError as error:
            self._refuse(frame, "engine", str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's alone
            traceback.print_exc()
            self._refuse(frame, "engine", failure_words(error))

    def refuse(self, id: int, problem: str) -> None:  # noqa: A002 - the protocol's word
        """Say that a request cannot be served."""
        self._refuse({"id": id}, "engine", problem)

    def _refuse(self, frame: Frame, kind: str, problem: str, **details: Any) -> None:
        self._send({"op": "failed", "id": frame["id"], "kind": kind, "problem": problem, **details})

    def _is_too_long(self, text: str, limit: int) -> bool:
        """Whether a text has more tokens than ``limit`` at first sight; short ones cost nothing."""
        return len(text) > _WORTH_A_LOOK and self._model.vocabulary.least_tokens(text) > limit

    def _tokens(self, prompt: Prompt) -> list[int]:
        return self._model.vocabulary.tokenize_prompt(
            prompt.text, add_special=prompt.add_special, guard=prompt.guard
        )

    def _generate(self, frame: Frame) -> None:
        options, limit = frame["options"], self._model.context_length
        tools = _offered(options)
        effort = options.get("reasoning_effort")
        if frame.get("suffix") is not None:
            prompt = Prompt(frame["messages"][0]["content"], add_special=False)
            whole = prompt.text + frame["suffix"]
        elif options.get("raw"):
            prompt = Prompt(frame["messages"][0]["content"], add_special=True)
            whole = prompt.text
        else:
            prompt = self._template.render(frame["messages"], tools=tools, effort=effort)
            whole = prompt.text
        if self._is_too_long(whole, limit):
            self._refuse(frame, "context", "", prompt_tokens=None, context_length=limit)
            return
        tokens = (
            self._tokens(prompt)
            if frame.get("suffix") is None
            else self._model.vocabulary.gap_between(prompt.text, frame["suffix"])
        )
        if not tokens:
            self._refuse(frame, "engine", "the prompt is empty")
        elif len(tokens) >= limit:
            self._refuse(frame, "context", "", prompt_tokens=len(tokens), context_length=limit)
        else:
            self._submit(frame, self._task(frame, tokens, prompt.form), prompt.form)

    def _submit(self, frame: Frame, task: Task, form: OutputFormat) -> None:
        submitted = False
        try:
            self._send({"op": "prompt", "id": frame["id"], **form.to_frame()})
            with self._lock:  # a cancel is either seen here, or comes to the engine behind it
                is_wanted = frame["id"] not in self._cancelled
                submitted = is_wanted and self._engine.submit(task)
        finally:
            if not submitted:
                task.sampler.close()
        if is_wanted and not submitted:
            self._refuse(frame, "busy", "", waiting=QUEUE_LIMIT)

    def _task(self, frame: Frame, tokens: list[int], form: OutputFormat) -> Task:
        options = frame["options"]
        shifts = options.get("on_full") == "shift"
        if shifts and not self._model.cells.can_shift:
            problem = "this model does not support context shift; leave it unset"
            raise RefusedOptionError("on_full", problem)
        looks_up = options.get("prompt_lookup", True) and self._model.can_copy_prefix
        text = TextAssembler(tuple(options.get("stop", ())))
        keep = self._kept_length(frame, tokens) if shifts else 0
        return Task(
            frame["id"],
            tokens,
            options.get("max_tokens") or (sys.maxsize if shifts else self._model.context_length),
            Sampler(options, self._model, tokens, form),
            text,
            tuple(options.get("adapters", self._model.scales)),
            background=options.get("priority") == "background",
            shifts=shifts,
            keep=keep,
            lookup=Lookup() if looks_up else None,
            repetition=Repetition() if is_watched(options) else None,
        )

    def _kept_length(self, frame: Frame, tokens: list[int]) -> int:
        """How many tokens a shift leaves at the beginning: the system message, and a few always.

        Attention leans on the first tokens (https://arxiv.org/abs/2309.17453).
        """
        system = [turn for turn in frame["messages"][:1] if turn["role"] == "system"]
        if not system:
            return _FIRST_TOKENS
        with suppress(TemplateRefusalError):
            begin = self._tokens(self._template.render(system, tools=_offered(frame["options"])))
            return max(_FIRST_TOKENS, shared_length(begin, tokens))
        return _FIRST_TOKENS

    def _cancel(self, frame: Frame) -> None:
        with self._lock:
            if frame["id"] in self._preparing:
                self._cancelled.add(frame["id"])
            self._engine.cancel(frame["id"])
        self._embedder.cancel(frame["id"])

    def _count(self, frame: Frame) -> Frame:
        if frame.get("raw"):
            prompt = Prompt(frame["messages"][0]["content"], add_special=True)
        else:
            prompt = self._template.render(frame["messages"])
        return {"tokens": len(self._tokens(prompt))}

    def _tokenize(self, frame: Frame) -> Frame:
        tokens = self._model.vocabulary.tokenize(
            frame["text"], add_special=False, parse_special=True
        )
        return {"tokens": tokens}

    def _detokenize(self, frame: Frame) -> Frame:
        vocabulary = self._model.vocabulary
        strangers = [token for token in frame["tokens"] if token not in vocabulary]
        if strangers:
            problem = (
                f"{strangers[0]} is not a token id of this model (0 to {vocabulary.size - 1:,})"
            )
            raise RefusedOptionError("tokens", problem)
        return {"text": vocabulary.detokenize(frame["tokens"]).decode(errors="replace")}

    def _embed(self, frame: Frame) -> None:
        vocabulary = self._model.vocabulary
        if not frame["texts"] or not all(frame["texts"]):
            raise RefusedOptionError(
                "texts", "must not contain an empty text, which has no embedding"
            )
        if self._refuses_long(frame, frame["texts"]):
            return
        texts = [
            vocabulary.tokenize(text, add_special=True, parse_special=False)
            for text in frame["texts"]
        ]
        if not all(texts):
            raise RefusedOptionError(
                "texts", "must not contain a text without tokens, which has no embedding"
            )
        tokens = sum(map(len, texts))
        self._pool(frame, texts, lambda rows: {"vectors": rows.tolist(), "tokens": tokens})

    def _rerank(self, frame: Frame) -> None:
        if self._refuses_long(frame, [frame["query"] + text for text in frame["documents"]]):
            return
        texts = [
            rerank_tokens(self._model, frame["query"], document) for document in frame["documents"]
        ]
        self._pool(frame, texts, lambda rows: {"scores": rows[:, 0].tolist()})

    def _refuses_long(self, frame: Frame, texts: Sequence[str]) -> bool:
        """Refuse texts that are too long at first sight; whether one was."""
        limit = self._embedder.longest
        for number, text in enumerate(texts, 1):
            if self._is_too_long(text, limit):
                self._refuse(frame, "long_text", "", number=number, tokens=None, limit=limit)
                return True
        return False

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


def _offered(options: Frame) -> Sequence[Frame]:
    """The tools that may be called."""
    return options.get("tools", ()) if options.get("tool_choice") != "none" else ()


def _is_bound(frame: Frame) -> bool:
    """Whether this asks for an answer that may need a grammar."""
    options = frame.get("options")
    if frame["op"] != "generate" or not isinstance(options, dict):
        return False
    bound = ("response_schema", "grammar", "tools")
    return isinstance(frame.get("id"), int) and any(options.get(name) for name in bound)


_FIELDS: Mapping[str, Mapping[str, type]] = {
    "generate": {"messages": list, "options": dict},
    "cancel": {},
    "count": {"messages": list},
    "tokenize": {"text": str},
    "detokenize": {"tokens": list},
    "embed": {"texts": list},
    "rerank": {"query": str, "documents": list},
}
_ITEMS: Mapping[str, type] = {
    "messages": dict,
    "tokens": int,
    "texts": str,
    "documents": str,
}


def _check_fields(frame: Frame) -> None:
    """Raise ``ValueError`` for a frame whose fields have not the types of ``protocol.py``."""
    fields = _FIELDS.get(frame["op"])
    if fields is None:
        raise ValueError(f"unknown request {frame['op']!r}")
    for name, kind in {"id": int, **fields}.items():
        value = frame.get(name)
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be {kind.__name__} (got {type(value).__name__})")
        if isinstance(value, list) and not all(isinstance(item, _ITEMS[name]) for item in value):
            raise ValueError(f"{name} must hold {_ITEMS[name].__name__} only")
