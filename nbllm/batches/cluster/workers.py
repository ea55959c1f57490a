"""The workers of a Dask cluster during one run: who has the model, who cannot, who has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from nbllm.batches.brake import Brake
from nbllm.batches.cluster import on_worker
from nbllm.batches.cluster.on_worker import Opened, Wanted
from nbllm.batches.cluster.seats import Seat, Seats
from nbllm.core.errors import BatchError, ModelError, NbllmError
from nbllm.core.kinds import kind_of

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["LostError", "Workers"]

_LOOK_SECONDS = 0.25
_ANSWER_SECONDS = 30.0
"""So long the scheduler may take to answer."""
_REFUSED_SECONDS = 3.0
"""So long a cluster whose workers all cannot load may take to start another one."""
_MOST_CRASHES = 3
"""So many workers may be lost while they load, one after the other, where none has the model: what
starts them again would do so for ever."""


class LostError(Exception):
    """A worker has gone, and with it what it worked on."""


class Workers:
    """The workers of ``client``'s cluster, which load the model as they come.

    ``seats`` are those that have it, ``brake`` is as wide as all of them. ``first`` is the model as
    the first of them loaded it; one that loads another file, or loads it otherwise, is refused, as
    its answers would be of another model. ``notes`` say who was refused or lost as it loaded, and
    why. Without any worker the run ends after ``patience`` seconds.
    """

    def __init__(
        self, client: Client, wanted: Wanted, concurrency: int | None, patience: float
    ) -> None:
        self._client, self._wanted, self._patience = client, wanted, patience
        self.seats, self.brake = Seats(concurrency), Brake(1)
        self.first: Opened | None = None
        self.notes: list[str] = []
        self._joining: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._crashes = 0
        self._watch = asyncio.create_task(self._watched())

    async def close(self) -> None:
        """End the run on all workers, and look at them no more."""
        tasks = [self._watch, *self._joining.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):  # whatever Dask raises: the scheduler forgets the tasks too
            await self._of_client(
                self._client.run,
                on_worker.stopped,
                self._wanted.run,
                on_error="ignore",
            )

    async def _of_client(self, method: Callable[..., Any], *values: Any, **named: Any) -> Any:
        """What a method of the client returns. Raises as it does, ``OSError`` for no connection."""
        loop = self._client.loop.asyncio_loop
        called = method(*values, asynchronous=True, **named)
        asked = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(called, loop))
        try:
            deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
            while self._is_connected and asyncio.get_running_loop().time() < deadline:
                # A client whose scheduler is lost waits for another one, and says nothing.
                if (await asyncio.wait({asked}, timeout=_LOOK_SECONDS))[0]:
                    return asked.result()
            raise ConnectionError("the scheduler does not answer")
        finally:
            asked.cancel()

    @property
    def _is_connected(self) -> bool:
        return bool(self._client.status == "running")

    # ------------------------------------------------------------ work

    async def call(self, address: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """What ``work`` returns on a worker. Raises ``LostError``, or ``ModelError`` for a bug."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def finished(_: object) -> None:
            with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(done.set)

        future = self._client.submit(
            work,
            self._wanted,
            *arguments,
            key=f"nbllm-{work.__name__}-{uuid4().hex}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
        )
        try:
            future.add_done_callback(finished)
            await done.wait()
            return await asyncio.to_thread(self._outcome, address, future)
        finally:
            future.release()

    def _outcome(self, address: str, future: Future) -> Any:
        from distributed import KilledWorker

        if future.status == "finished":
            return future.result(timeout=_ANSWER_SECONDS)
        if future.status != "error":
            raise LostError
        error = future.exception(timeout=_ANSWER_SECONDS)
        if isinstance(error, KilledWorker):
            raise LostError
        raise ModelError(self._wanted.name, f"{address}: {type(error).__name__}: {error}")

    def refuse(self, address: str, error: NbllmError) -> None:
        """Ask a worker no more, and note why."""
        note = f"the Dask worker {address} is not asked: {type(error).__name__}: {error}"
        if note not in self.notes:
            self.notes.append(note)
        self.seats.drop(address)

    # ------------------------------------------------------------ who is there

    async def _watched(self) -> None:
        """Let workers in as they come, and forget those that have gone."""
        clock = asyncio.get_running_loop().time
        hopeful, knock = clock(), None
        while (found := await self._found()) is not None:
            self._compare(found)
            if not found and knock is None:  # a cluster that adapts starts a worker for it
                knock = self._client.submit(_nothing, pure=False)
            if self.seats or not all(task.done() for task in self._joining.values()):
                hopeful = clock()
            elif clock() - hopeful > (_REFUSED_SECONDS if found else self._patience):
                break
            if self._crashes >= _MOST_CRASHES and not self.seats:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        await self.seats.end(self._why_over(found))

    async def _found(self) -> set[str] | None:
        """The addresses of all workers; None where the scheduler is lost."""
        try:
            found = set(await self._of_client(self._client.nthreads))
        except (OSError, ValueError):
            return None
        return found if self._is_connected else None

    def _compare(self, found: set[str]) -> None:
        for address in [address for address in self._joining if address not in found]:
            joining = self._joining.pop(address)
            if not joining.done():
                joining.cancel()
                self._crashed(address)
            self.seats.drop(address)
        for address in found.difference(self._joining):
            self._joining[address] = asyncio.create_task(self._join(address))

    def _crashed(self, address: str) -> None:
        """Note a worker that was lost as it loaded; mostly the system has ended its process."""
        self._crashes += 1
        self.notes.append(
            f"the Dask worker {address} was lost while it loaded {self._wanted.name}; its log says "
            "why, often that the machine has too little memory"
        )

    async def _join(self, address: str) -> None:
        try:
            loaded = await self._loaded(address)
        except LostError:
            self._crashed(address)
            return
        if isinstance(loaded, NbllmError):
            self.refuse(address, loaded)
            return
        self._crashes, self.first = 0, self.first or loaded
        is_warm = not kind_of(loaded.info).keeps_prefixes
        await self.seats.add(Seat(address, loaded.width, is_warm))
        self.brake.widen(self.seats.width)

    async def _loaded(self, address: str) -> Opened | NbllmError:
        """The model as a worker has loaded it, or why it is not to be asked."""
        host = urlsplit(address).hostname or address
        try:
            # Of one machine one after the other: each measures what memory the others left.
            async with self._turns.setdefault(host, asyncio.Lock()):
                loaded: Opened | NbllmError = await self.call(address, on_worker.opened)
        except NbllmError as error:
            return error
        if isinstance(loaded, NbllmError) or self.first is None:
            return loaded
        return loaded if loaded.identity == self.first.identity else self._other(loaded.identity)

    def _other(self, identity: Mapping[str, Any]) -> BatchError:
        known = self.first.identity if self.first else {}
        parts = [name for name in {**known, **identity} if known.get(name) != identity.get(name)]
        return BatchError(
            f"its {self._wanted.name} is not the one that the first worker has loaded: "
            f"{', '.join(parts)} differ. Install the same on all workers"
        )

    @property
    def _address(self) -> str:
        scheduler = self._client.scheduler
        return str(scheduler.address if scheduler is not None else "an unknown address")

    def _why_over(self, found: set[str] | None) -> BatchError:
        again = "and run it again with the same journal to go on"
        if found is None:
            return BatchError(
                f"stopped, because the Dask scheduler at {self._address} is lost. Connect to a "
                f"cluster {again}."
            )
        if self.notes and (found or self._crashes):
            reasons = "".join(f"\n- {note}" for note in self.notes)
            problem = f"no worker at {self._address} can be asked for {self._wanted.name}:"
            return BatchError(f"{problem}{reasons}")
        return BatchError(
            f"the Dask cluster at {self._address} has had no worker for {self._patience:g} "
            f"seconds. Start some, {again}."
        )


def _nothing() -> None:
    """Work for a cluster that starts workers when there is some."""
