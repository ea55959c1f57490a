"""The process that owns one model: ``python -m nbllm.local.worker``.

It speaks ``protocol.py`` over its standard input and a private copy of its standard output;
what anything in it prints goes to standard error, where the parent keeps the last lines.

It never outlives its parent. Its input ends when the parent does, however that ends. A process
that the parent forked may hold the input open, so the parent's process id is watched too.
"""

from __future__ import annotations

import faulthandler
import os
import re
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
from nbllm.local.outbox import Outbox, take_standard_output
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
from nbllm.local.stages import LOAD_BYTES_A_SECOND, Stage

__all__ = ["main"]

_WATCH_SECONDS = 0.25
_INTAKE_BYTES_A_SECOND = 10e3  # of characters that no vocabulary has; others take a 100th of it
_REQUEST = re.compile(rb'\{"op":"[a-z]+","id":(\d+)')


def main() -> None:
    """Load the model that the first frame names, then serve until the input ends."""
    faulthandler.enable()
    threading.excepthook = _end_with
    inbox, outbox = sys.stdin.buffer, Outbox(take_standard_output())
    stages = {name: Stage() for name in ("load", "intake", "engine", "embedder")}
    outbox.keep_beating(stages)
    first = protocol.decode(inbox.readline() or b"{}")
    renderer = Renderer()  # its process starts while the model is loaded
    with stages["load"].at_work():
        model, draft = _load(first, outbox, stages["load"])
    pace = _pace(model) if first["steady"] else None
    engine = Engine(
        model,
        outbox.send,
        pace,
        kept_bytes=first["kept_bytes"],
        drafts=Drafts(draft) if draft else None,
        stage=stages["engine"],
    )
    given = first["chat_template"]
    template = ChatTemplate(given or model.chat_template, model.vocabulary, renderer)
    if given:
        _check(template, outbox)
    intake = Intake(model, engine, outbox.send, template, stages["embedder"])
    threading.Thread(target=_read, args=(inbox, intake, stages["intake"]), daemon=True).start()
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


def _load(frame: Frame, outbox: Outbox, stage: Stage) -> tuple[NativeModel, NativeModel | None]:
    """The model and its draft model, if it is to have one."""
    settings = Settings.from_frame(frame)
    told, allowed = 0.0, frame["file_bytes"] / LOAD_BYTES_A_SECOND
    stage.begin(allowed)

    def report(fraction: float) -> None:
        nonlocal told
        stage.begin(allowed)
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


def _read(inbox: BinaryIO, intake: Intake, stage: Stage) -> None:
    """Serve the parent; when it is gone or says so, leave without waiting for a step's end."""
    with suppress(OSError):
        for line in inbox:
            try:
                frame = protocol.decode(line)
            except ValueError as error:
                _refuse(line, error, intake)
                continue
            if frame["op"] == "close":
                break
            with stage.at_work(len(line) / _INTAKE_BYTES_A_SECOND):
                intake.handle(frame)
    os._exit(0)


def _refuse(line: bytes, error: ValueError, intake: Intake) -> None:
    """A line that cannot be read ends the request that it is of, and no other."""
    request = _REQUEST.match(line)
    if request is None:
        raise error
    intake.refuse(int(request[1]), f"its worker could not read the request: {error}")


def _watch(engine: Engine) -> None:
    """Keep the engine informed of what the machine does."""
    while True:
        engine.watch()
        time.sleep(_WATCH_SECONDS)


if __name__ == "__main__":
    main()
