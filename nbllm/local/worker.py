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
from contextlib import suppress
from functools import partial
from typing import BinaryIO, NoReturn

import psutil

from nbllm.local import protocol
from nbllm.local.engine import Engine
from nbllm.local.intake import Intake
from nbllm.local.llama.chat import ChatTemplate, TemplateRefusalError
from nbllm.local.llama.draft import load_draft
from nbllm.local.llama.invariance import check_invariance
from nbllm.local.llama.loading import Settings
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.protocol import Frame
from nbllm.local.rendering.client import Renderer
from nbllm.local.scheduling.drafts import Drafts
from nbllm.local.scheduling.pace import (
    Pace,
    Peers,
    cores_in_use,
    machine_busy_seconds,
    process_seconds,
)

__all__ = ["main"]

_BEAT_SECONDS = 1.0
_WATCH_SECONDS = 0.25


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


def main() -> None:
    """Load the model that the first frame names, then serve until the input ends."""
    faulthandler.enable()
    threading.excepthook = _end_with
    inbox, outbox = sys.stdin.buffer, Outbox(_take_standard_output())
    threading.Thread(target=_beat, args=(outbox, os.getppid()), daemon=True).start()
    first = protocol.decode(inbox.readline() or b"{}")
    renderer = Renderer()  # its process starts while the model is loaded
    model, draft = _load(first, outbox)
    pace = _pace(model) if first["steady"] else None
    engine = Engine(
        model,
        outbox.send,
        pace,
        kept_bytes=first["kept_bytes"],
        drafts=Drafts(draft) if draft else None,
    )
    given = first["chat_template"]
    template = ChatTemplate(given or model.chat_template, model.vocabulary, renderer)
    if given:
        _check(template, outbox)
    intake = Intake(model, engine, outbox.send, template)
    threading.Thread(target=_read, args=(inbox, intake), daemon=True).start()
    threading.Thread(target=_watch, args=(engine,), daemon=True).start()
    outbox.send(
        {
            "op": "ready",
            "context_length": model.context_length,
            "parallel": model.settings.parallel,
            "threads": model.settings.threads,
            "memory_bytes": model.memory_bytes + (draft.memory_bytes if draft else 0),
            "can_write": model.can_write,
            "can_fill": model.vocabulary.can_fill,
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
        asker_seconds=partial(process_seconds, psutil.Process(os.getppid())),
        peers=Peers(),
    )


def _take_standard_output() -> BinaryIO:
    """The pipe to the parent; from here on, printing goes to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private


def _load(frame: Frame, outbox: Outbox) -> tuple[NativeModel, NativeModel | None]:
    """The model and its draft model, if it is to have one."""
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
        if settings.batch_invariant:
            check_invariance(model)
        return model, frame["draft"] and load_draft(Settings.from_frame(frame["draft"]), model)
    except NotLoadableError as error:
        _leave(outbox, str(error))


def _check(template: ChatTemplate, outbox: Outbox) -> None:
    """A template that the user gave must be one; with its file's own, a model is of use anyway."""
    try:
        template.check()
    except TemplateRefusalError as error:
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


def _watch(engine: Engine) -> None:
    """Keep the engine informed of what the machine does."""
    while True:
        engine.watch()
        time.sleep(_WATCH_SECONDS)


if __name__ == "__main__":
    main()
