"""Coroutines: several at once, and those that say what is missing where nobody awaited them.

``model.generate("Hi")`` without ``await`` is the commonest slip of an asynchronous interface, and
Python's own answers to it ("<coroutine object …>", "'coroutine' object has no attribute 'text'")
tell a newcomer nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator, Iterable
from functools import wraps
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

__all__ = ["NotAwaited", "gathered", "tells_unless_awaited"]

T = TypeVar("T")
Class = TypeVar("Class")
P = ParamSpec("P")


class NotAwaited(Coroutine[Any, Any, T], Generic[T]):
    """The coroutine ``work`` of the call ``written``, which its repr and its errors name.

    It is a coroutine to whoever takes one: ``await``, ``asyncio.run``, ``gather``, ``wait_for``,
    ``create_task``. What is never awaited still warns so at its end.
    """

    __slots__ = ("__qualname__", "_work", "_written")

    def __init__(self, work: Coroutine[Any, Any, T], written: str) -> None:
        self._work, self._written = work, written
        self.__qualname__ = getattr(work, "__qualname__", written)  # in the reprs of tasks

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()

    def send(self, value: Any) -> Any:
        """See ``Coroutine``."""
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """See ``Coroutine``."""
        return self._work.throw(*error)

    def close(self) -> None:
        """See ``Coroutine``."""
        self._work.close()

    def __iter__(self) -> NoReturn:
        raise TypeError(self._hint)

    def __getitem__(self, index: object) -> NoReturn:
        raise TypeError(self._hint)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cr_"):  # what debuggers and the stacks of tasks look at
            return getattr(self._work, name)
        raise AttributeError(self._hint, name=name, obj=self)

    @property
    def _hint(self) -> str:
        return f'not awaited: write "await {self._written}"'

    def __repr__(self) -> str:
        match inspect.getcoroutinestate(self._work):
            case inspect.CORO_CREATED:
                return f"<nbllm: {self._hint}>"
            case inspect.CORO_CLOSED:
                return f"<nbllm: {self._written}, finished>"
            case _:
                return f"<nbllm: {self._written}, running>"


def tells_unless_awaited(holder: str) -> Callable[[type[Class]], type[Class]]:
    """Have all public coroutines of a class be ``NotAwaited``.

    ``holder`` is what an instance is called in examples: "model" for ``model.generate(…)``.
    """

    def wrap(cls: type[Class]) -> type[Class]:
        for name, method in tuple(vars(cls).items()):
            if inspect.iscoroutinefunction(method) and not name.startswith("_"):
                setattr(cls, name, _telling(method, f"{holder}.{name}(…)"))
        return cls

    return wrap


def _telling(
    method: Callable[P, Coroutine[Any, Any, T]], written: str
) -> Callable[P, Coroutine[Any, Any, T]]:
    @wraps(method)
    def begin(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return NotAwaited(method(*args, **kwargs), written)

    mark = getattr(inspect, "markcoroutinefunction", None)  # since Python 3.12
    marked: Callable[P, Coroutine[Any, Any, T]] = begin if mark is None else mark(begin)
    return marked


async def gathered(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in the order of ``works``, which run at the same time.

    The first failure, and a cancellation, cancels the others and is raised when they have ended.
    (``asyncio.TaskGroup`` does so since Python 3.11.)
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
