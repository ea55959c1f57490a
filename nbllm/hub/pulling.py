"""A pull from beginning to end: what there is, what is taken, and its files onto the disk."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from nbllm.core.downloads import PullPhase, PullPlan, PullProgress, PullReport, RemoteFile
from nbllm.core.errors import DownloadError
from nbllm.core.hardware.resources import Resources
from nbllm.core.paths import read_start
from nbllm.core.words import size_words
from nbllm.hub.destinations import Place, Source, free_bytes, source_of
from nbllm.hub.download_errors import disk_error
from nbllm.hub.downloaded_models import (
    Pulled,
    delete,
    note_pull,
    plan_deletion,
    pulled_file,
    pulled_files,
    pulled_models,
)
from nbllm.hub.parts import Checksum, PartFile, expected_checksum, received_bytes
from nbllm.hub.planning import plan
from nbllm.hub.transfer import Transfer

__all__ = [
    "_in_own_loop",
    "carry_out",
    "delete",
    "plan_deletion",
    "plan_pull",
    "pulled_file",
    "pulled_files",
]

_MAGIC = b"GGUF"
_LEFT_FREE_BYTES = 64 * 2**20
_REPORT_SECONDS = 0.2
_SPEED_SECONDS = 5.0


async def plan_pull(
    name: str, resources: Resources, *, quant: str | None = None, companions: bool = False
) -> PullPlan:
    """What a pull of ``name`` would download, and why; see ``FileJobs.plan_pull``."""
    return await _in_own_loop(
        partial(plan, name, resources, quant=quant, wants_companions=companions)
    )


async def carry_out(plan: PullPlan, report: PullReport) -> Path:
    """Download what was planned, and return the path of the model's first file.

    Raises ``DownloadError``. Cancelling it keeps what has arrived.
    """
    return await _in_own_loop(partial(_carry_out, plan, report))


async def _carry_out(plan: PullPlan, report: PullReport) -> Path:
    source = source_of(plan)
    meter = _Meter(plan, report)
    try:
        first = source.place.path(plan.files[0])
        if missing := [file for file in plan.files if not source.place.is_here(file)]:
            _check_disk(plan.name, source.place, missing)
            note_pull(_pulled(plan, first, source.place, missing))
        for file in plan.files:
            meter.begin(file)
            await _bring(plan.name, source, file, meter)
        meter.tell("done", plan.files[-1].size_bytes)
        return first
    except OSError as error:
        left = max(plan.size_bytes - meter.received, 0)
        raise disk_error(plan.name, source.place.folder, error, left) from error
    finally:
        await source.servers.aclose()


def _pulled(plan: PullPlan, first: Path, place: Place, missing: list[RemoteFile]) -> Pulled:
    parts = [place.parts(file) for file in missing]
    known = {file for each in pulled_models() for file in each.companions}
    beside = [place.path(file) for file in plan.companions]
    new = [place.path(file) for file in missing]
    return Pulled(
        plan.name,
        first,
        files=tuple(file for file in new if file not in beside),
        companions=tuple(file for file in beside if file in new or file in known),
        parts=tuple(path for each in parts for path in (each.data, each.counts)),
    )


def _check_disk(where: str, place: Place, missing: list[RemoteFile]) -> None:
    """Raise ``DownloadError`` where what is missing has no room. Nothing was downloaded then."""
    needed = sum(
        file.size_bytes - min(place.parts(file).disk_bytes, file.size_bytes) for file in missing
    )
    free = free_bytes(place.folder)
    if free is not None and needed + _LEFT_FREE_BYTES > free:
        raise DownloadError(
            where,
            f"another {size_words(needed)} must be downloaded, but the disk of {place.folder} has "
            f"{size_words(free)} free. Free some space, choose a smaller variant, or set "
            "HF_HOME to a folder on another disk",
        )


async def _bring(where: str, source: Source, file: RemoteFile, meter: _Meter) -> None:
    """Have one file on the disk, by this process or by another that is at it already."""
    place = source.place
    if not place.is_here(file):
        async with _held(place, file, meter):
            if not place.is_here(file):
                await _download(where, source, file, meter)


@asynccontextmanager
async def _held(place: Place, file: RemoteFile, meter: _Meter) -> AsyncIterator[None]:
    """Hold the file's lock, which the hub's own library takes too.

    Who has to wait for it shows what its holder has.
    """
    path = place.lock(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                there = received_bytes(place.parts(file), file.size_bytes)
                meter.tell("waiting", there, "another process downloads it")
                await asyncio.sleep(_REPORT_SECONDS)
    except NotImplementedError:  # a disk without locks: the checksum keeps what is wrong out
        yield
        return
    try:
        yield
    finally:
        lock.release()


async def _download(where: str, source: Source, file: RemoteFile, meter: _Meter) -> None:
    place = source.place.parts(file)
    parts = PartFile(place, file.size_bytes, expected_checksum(file) or file.version or _unique())
    transfer = Transfer(source.servers, source.address(file), file, parts)
    checksum = Checksum(file, parts)
    ticker = asyncio.ensure_future(_tell(transfer, checksum, meter))
    checked = asyncio.ensure_future(checksum.follow())
    try:
        await transfer.run()
        found = await checked
        parts.sync()
    finally:
        ticker.cancel()
        checked.cancel()
        await asyncio.gather(ticker, checked, return_exceptions=True)
        parts.close()
    expected = expected_checksum(file)
    if expected is not None and found != expected:
        place.remove()
        raise DownloadError(
            where,
            f"the checksum of {file.name} is wrong ({found[:12]}… instead of {expected[:12]}…), so "
            "it was discarded. Pull again; if it stays so, the server or a proxy alters the file",
        )
    if read_start(place.data, len(_MAGIC)) != _MAGIC:
        place.remove()
        raise DownloadError(
            where,
            f"what the server sent as {file.name} is not a GGUF, so it was discarded. Check the "
            "address, and whether it needs a login",
        )
    source.place.publish(file)


def _unique() -> str:
    """An identity that nothing earlier has: what a file without a version was is unknown."""
    return os.urandom(16).hex()


async def _tell(transfer: Transfer, checksum: Checksum, meter: _Meter) -> None:
    """Say how far it is, a few times a second, until cancelled."""
    while True:
        received = transfer.parts.received
        is_whole = received == transfer.file.size_bytes
        meter.tell("checking" if is_whole else "downloading", received, transfer.notice)
        await asyncio.sleep(_REPORT_SECONDS)


class _Meter:
    """How far a pull is; ``received`` are the bytes of all files that are there."""

    def __init__(self, plan: PullPlan, report: PullReport) -> None:
        self.received = 0
        self._plan, self._report = plan, report
        self._number, self._before = 0, 0
        self._file = plan.files[0]
        self._seen: deque[tuple[float, int]] = deque()

    def begin(self, file: RemoteFile) -> None:
        """From now on it is this file."""
        self._before += self._file.size_bytes if self._number else 0
        self._number += 1
        self._file = file
        self._seen.clear()

    def tell(self, phase: PullPhase, received: int, notice: str = "") -> None:
        """Report ``received`` bytes of the file in work."""
        self.received = self._before + received
        now = time.monotonic()
        self._seen.append((now, self.received))
        while now - self._seen[0][0] > _SPEED_SECONDS:
            self._seen.popleft()
        began, first = self._seen[0]
        speed = (self.received - first) / (now - began) if now > began else 0.0
        self._report(
            PullProgress(
                phase=phase,
                file=self._file.name,
                number=self._number,
                count=len(self._plan.files),
                received_bytes=self.received,
                total_bytes=self._plan.size_bytes,
                bytes_per_second=speed,
                notice=notice,
            )
        )


# ---------------------------------------------------------------- a loop of its own


T = TypeVar("T")


async def _in_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of ``work()``; cancelling the caller cancels it, and does not wait for its end."""
    outcome: Future[T] = Future()
    begun: Future[Callable[[], object]] = Future()

    def serve() -> None:
        # Not asyncio.run: nest_asyncio replaces it by one that works in the main thread only.
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            task = loop.create_task(work())
            begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
            result = loop.run_until_complete(task)
        except asyncio.CancelledError:
            _finish(loop)
            outcome.cancel()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller
            _finish(loop)
            with suppress(asyncio.InvalidStateError):
                outcome.set_exception(error)
        else:
            _finish(loop)
            outcome.set_result(result)

    threading.Thread(target=serve, name="nbllm-download", daemon=True).start()
    try:
        return await asyncio.shield(asyncio.wrap_future(outcome))
    except asyncio.CancelledError:
        with suppress(RuntimeError):  # it has ended meanwhile
            begun.result()()
        raise


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
