"""The process that owns one model: ``python -m nbllm.local.worker``.

It speaks ``protocol.py`` over its standard input and a private copy of its standard output;
what anything in it prints goes to standard error, where the parent keeps the last lines.

It never outlives its parent, but for the seconds that saving prompts takes where that was asked
for. Its input ends when the parent does, however that ends. A process that the parent forked may
hold the input open, so the parent's process id is watched too.
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
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec
import psutil

from nbllm.local.engine import Engine
from nbllm.local.ipc.events import LoadProgress, Notice, Ready, Unloadable
from nbllm.local.ipc.liveness import LOAD_BYTES_A_SECOND, SAVE_SECONDS, Stage
from nbllm.local.ipc.operations import Load
from nbllm.local.ipc.outbox import Outbox, take_standard_output
from nbllm.local.ipc.protocol import decode
from nbllm.local.ipc.threads import start_thread, vital
from nbllm.local.llama.chat import ChatTemplate
from nbllm.local.llama.model_checks import check_invariance, load_draft
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.llama.rpc_servers import watch_servers
from nbllm.local.rendering.client import Renderer
from nbllm.local.request_handler import RequestHandler
from nbllm.local.request_refusals import TemplateRefusalError
from nbllm.local.scheduling.model_drafter import ModelDrafter
from nbllm.local.scheduling.prefix_disk import PrefixDisk
from nbllm.local.scheduling.thread_governor import (
    Peers,
    ThreadGovernor,
    cores_in_use,
    machine_busy_seconds,
    process_seconds,
)

__all__ = ["main"]

_WATCH_SECONDS = 0.25
_READ_BYTES_A_SECOND = 10e3  # of characters that no vocabulary has; others take a 100th of it
_FIRST = msgspec.json.Decoder(Load)


def main() -> None:
    """Load the model that the first line names, then serve until the input ends."""
    faulthandler.enable()
    threading.excepthook = _end_with
    vital(_serve)


def _serve() -> None:
    inbox, outbox = sys.stdin.buffer, Outbox(take_standard_output())
    stages = {name: Stage() for name in ("load", "requests", "engine", "embedder")}
    outbox.keep_beating(stages)
    first = decode(inbox.readline(), _FIRST)
    renderer = Renderer()  # its process starts while the model is loaded
    if first.settings.rpc:
        watch_servers(stages["load"], [stages["engine"], stages["embedder"]])
    with stages["load"].at_work():
        model, draft = _load(first, outbox, stages["load"])
    engine = Engine(
        model,
        outbox.send,
        _governor(model) if first.yields_cores else None,
        kept_bytes=first.kept_bytes,
        disk=_disk(first, model, outbox),
        drafter=ModelDrafter(draft) if draft else None,
        stage=stages["engine"],
    )
    if first.settings.rpc and model.can_write:
        with stages["load"].at_work():
            engine.rehearse()
    given = first.chat_template
    template = ChatTemplate(given or model.chat_template, model.vocabulary, renderer)
    if given:
        _check(template, outbox)
    handler = RequestHandler(model, engine, outbox.send, template, stages["embedder"])
    if first.disk is not None:
        outbox.on_orphaned = partial(_leave_saved, engine)
    start_thread(_read, inbox, handler, stages["requests"], outbox.on_orphaned)
    start_thread(_watch, engine)
    outbox.send(
        Ready(
            context_length=model.context_length,
            memory_bytes=model.memory_bytes + (draft.memory_bytes if draft else 0),
            can_write=model.can_write,
            can_fill=model.vocabulary.can_fill,
            is_reranker=model.is_reranker,
        )
    )
    engine.run()
    os._exit(0)


def _disk(operation: Load, model: NativeModel, outbox: Outbox) -> PrefixDisk | None:
    """The prefix cache on disk, if there is to be one; a model that only reads needs none."""
    cache = operation.disk
    if cache is None or not model.can_write:
        return None
    return PrefixDisk(
        Path(os.fsdecode(cache.folder)),
        cache.limit_bytes,
        "\n".join((*cache.files, *model.state_marks)),
        model.context_length,
        lambda text: outbox.send(Notice(text)),
        whole=model.saves_whole,
    )


def _leave_saved(engine: Engine) -> None:
    """Have the engine save what it holds and end the process, which ends in time in any case."""
    for leave in (engine.leave, _leave_late):
        start_thread(leave)


def _leave_late() -> None:
    time.sleep(SAVE_SECONDS)
    os._exit(0)


def _end_with(failure: threading.ExceptHookArgs) -> None:
    """A thread that failed takes the process along, so that nobody waits for it in vain."""
    try:
        sys.__excepthook__(failure.exc_type, failure.exc_value, failure.exc_traceback)  # type: ignore[arg-type]
    finally:  # to say why may fail too, where there is no memory
        os._exit(1)


def _governor(model: NativeModel) -> ThreadGovernor:
    cores = cores_in_use()
    return ThreadGovernor(
        model.settings.threads,
        model.settings.batch_threads,
        cores=len(cores),
        busy_seconds=partial(machine_busy_seconds, cores),
        asker_seconds=partial(process_seconds, psutil.Process(os.getppid())),
        peers=Peers(),
    )


def _load(operation: Load, outbox: Outbox, stage: Stage) -> tuple[NativeModel, NativeModel | None]:
    """The model and its draft model, if it is to have one."""
    settings = operation.settings
    reported, allowed = 0.0, operation.file_bytes / LOAD_BYTES_A_SECOND
    stage.begin(allowed)

    def report(fraction: float) -> None:
        nonlocal reported
        stage.begin(allowed)
        now = time.monotonic()
        if now - reported >= 0.1 or fraction >= 1:
            reported = now
            outbox.send(LoadProgress(fraction))

    try:
        model = NativeModel(settings, report)
        model.use_adapters([(os.fsdecode(path), scale) for path, scale in operation.adapters])
        if settings.batch_invariant:
            check_invariance(model)
        return model, load_draft(operation.draft, model) if operation.draft else None
    except NotLoadableError as error:
        _leave(outbox, str(error))


def _check(template: ChatTemplate, outbox: Outbox) -> None:
    """A template that the user gave must be one; with its file's own, a model is of use anyway."""
    try:
        template.check()
    except TemplateRefusalError as error:
        _leave(outbox, str(error))


def _leave(outbox: Outbox, problem: str) -> NoReturn:
    outbox.send(Unloadable(problem))
    os._exit(1)


def _read(
    inbox: BinaryIO, handler: RequestHandler, stage: Stage, leave: Callable[[], None]
) -> None:
    """Serve the parent; when it is gone or says so, leave without waiting for a step's end."""
    with suppress(OSError):
        for line in inbox:
            with stage.at_work(len(line) / _READ_BYTES_A_SECOND):
                if not handler.read(line):
                    break
    leave()


def _watch(engine: Engine) -> None:
    """Keep the engine informed of what the machine does."""
    while True:
        engine.watch()
        time.sleep(_WATCH_SECONDS)


if __name__ == "__main__":
    main()
