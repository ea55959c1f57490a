"""The process that owns one model: ``python -m nbllm.local.worker``.

It speaks ``protocol.py`` over its standard input and a private copy of its standard output;
what anything in it prints goes to standard error, where the parent keeps the last lines.

It never outlives its parent. Its input ends when the parent does, however that ends. A process
that the parent forked may hold the input open, so the parent's process id is watched too.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from nbllm.local import protocol
from nbllm.local.chat import ChatTemplate, Prompt, TemplateRefusalError
from nbllm.local.embedder import Embedder, Job, rerank_tokens
from nbllm.local.engine import QUEUE_LIMIT, Engine
from nbllm.local.loading import Settings
from nbllm.local.lookup import Lookup
from nbllm.local.native import NativeModel, NotLoadableError
from nbllm.local.output_format import OutputFormat
from nbllm.local.pace import Pace, Peers, cores_in_use, machine_busy_seconds
from nbllm.local.prefixes import shared_length
from nbllm.local.protocol import Frame
from nbllm.local.sampling import Sampler
from nbllm.local.tasks import Task
from nbllm.local.text import TextAssembler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["main"]

_FIRST_TOKENS = 4
_BEAT_SECONDS = 1.0


class Outbox:
    """Where all threads put the frames for the parent."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Write a frame; a parent that is gone ends the worker."""
        data = protocol.encode(frame)
        with self._lock:
            try:
                self._file.write(data)
                self._file.flush()
            except OSError:
                os._exit(0)


class Intake:
    """Turns the parent's frames into tasks and answers; runs beside the engine.

    Templates and tokenizers work here, so that a long prompt does not hold up running answers.
    """

    def __init__(self, model: NativeModel, engine: Engine, outbox: Outbox) -> None:
        bos, eos = model.vocabulary.special_texts()
        self._template = ChatTemplate(model.chat_template, bos=bos, eos=eos)
        model.vocabulary.write_out(self._template.all_marks)
        self._model, self._engine, self._outbox = model, engine, outbox
        self._embedder = Embedder(model, outbox.send)

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
                self._outbox.send({"op": "reply", "id": frame["id"], **reply})

    def _refuse(self, frame: Frame, kind: str, problem: str, **details: Any) -> None:
        self._outbox.send(
            {"op": "failed", "id": frame["id"], "kind": kind, "problem": problem, **details}
        )

    def _tokens(self, prompt: Prompt) -> list[int]:
        return self._model.vocabulary.tokenize(
            prompt.text, add_special=prompt.add_special, parse_special=True
        )

    def _generate(self, frame: Frame) -> None:
        options = frame["options"]
        tools = options.get("tools", ()) if options.get("tool_choice") != "none" else ()
        effort = options.get("reasoning_effort")
        prompt = self._template.render(frame["messages"], tools=tools, effort=effort)
        tokens, limit = self._tokens(prompt), self._model.context_length
        if not tokens:
            self._refuse(frame, "engine", "the prompt is empty")
        elif len(tokens) >= limit:
            self._refuse(frame, "context", "", prompt_tokens=len(tokens), context_length=limit)
        else:
            task = self._task(frame, tokens, prompt.form)
            self._outbox.send({"op": "prompt", "id": frame["id"], **prompt.form.to_frame()})
            if not self._engine.submit(task):
                task.sampler.close()
                self._refuse(frame, "busy", "", waiting=QUEUE_LIMIT)

    def _task(self, frame: Frame, tokens: list[int], form: OutputFormat) -> Task:
        options = frame["options"]
        shifts = options.get("on_full") == "shift"
        if shifts and not self._model.can_shift:
            raise ValueError("this model cannot drop tokens from its context; leave out on_full")
        looks_up = options.get("prompt_lookup", True) and self._model.can_copy_prefix
        return Task(
            frame["id"],
            tokens,
            options.get("max_tokens") or (sys.maxsize if shifts else self._model.context_length),
            Sampler(options, self._model, tokens, form),
            TextAssembler(tuple(options.get("stop", ()))),
            background=options.get("priority") == "background",
            shifts=shifts,
            keep=self._kept_length(frame["messages"], tokens) if shifts else 0,
            lookup=Lookup() if looks_up else None,
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


def main() -> None:
    """Load the model that the first frame names, then serve until the input ends."""
    faulthandler.enable()
    threading.excepthook = _end_with
    inbox, outbox = sys.stdin.buffer, Outbox(_take_standard_output())
    threading.Thread(target=_beat, args=(outbox, os.getppid()), daemon=True).start()
    first = protocol.decode(inbox.readline() or b"{}")
    model = _load(first, outbox)
    pace = _pace(model) if first["steady"] else None
    engine = Engine(model, outbox.send, pace, kept_bytes=first["kept_bytes"])
    try:
        intake = Intake(model, engine, outbox)
    except TemplateRefusalError as error:
        _leave(outbox, str(error))
    threading.Thread(target=_read, args=(inbox, intake), daemon=True).start()
    outbox.send(
        {
            "op": "ready",
            "context_length": model.context_length,
            "parallel": model.settings.parallel,
            "threads": model.settings.threads,
            "memory_bytes": model.memory_bytes,
            "mapped_bytes": model.mapped_bytes,
            "can_write": model.can_write,
            "is_reranker": model.is_reranker,
        }
    )
    engine.run()


def _end_with(failure: threading.ExceptHookArgs) -> None:
    """A thread that failed takes the process along, so that nobody waits for it in vain."""
    sys.__excepthook__(failure.exc_type, failure.exc_value, failure.exc_traceback)  # type: ignore[arg-type]
    os._exit(1)


def _pace(model: NativeModel) -> Pace:
    cores = cores_in_use()
    return Pace(
        model.settings.threads,
        model.settings.batch_threads,
        cores=len(cores),
        busy_seconds=partial(machine_busy_seconds, cores),
        peers=Peers(),
    )


def _take_standard_output() -> BinaryIO:
    """The pipe to the parent; from here on, printing goes to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private


def _load(frame: Frame, outbox: Outbox) -> NativeModel:
    settings = Settings.from_frame(frame)
    told = 0.0

    def report(fraction: float) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= 0.1 or fraction >= 1:
            told = now
            outbox.send({"op": "loading", "fraction": fraction})

    try:
        model = NativeModel(settings, report)
        model.use_adapters(frame["adapters"])
        return model
    except NotLoadableError as error:
        _leave(outbox, str(error))


def _leave(outbox: Outbox, problem: str) -> NoReturn:
    outbox.send({"op": "unloadable", "problem": problem})
    os._exit(1)


def _read(inbox: BinaryIO, intake: Intake) -> None:
    """Serve the parent; when it is gone or says so, leave without waiting for a step's end."""
    with suppress(OSError):
        for line in inbox:
            frame = protocol.decode(line)
            if frame["op"] == "close":
                break
            intake.handle(frame)
    os._exit(0)


def _beat(outbox: Outbox, parent: int) -> None:
    """Give signs of life as long as the parent lives; then leave."""
    while os.getppid() == parent:
        outbox.send({"op": "beat"})
        time.sleep(_BEAT_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
