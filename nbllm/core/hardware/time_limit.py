"""Questions to drivers and file systems, given up when their time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Answer", "answer_within"]

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Value]):
    """What came back, and, where the question failed, why."""

    value: _Value
    failure: str | None = None


def answer_within(
    seconds: float, what: str, question: Callable[[], _Value], otherwise: Callable[[], _Value]
) -> Answer[_Value]:
    """The question's answer, or the one to give without it and the reason in a sentence.

    While a question hangs, no other one about the same is sent after it, by any thread.
    """
    answers: list[_Value] = []
    thread = _QuestionThread(what, lambda: answers.append(question()), seconds)
    if all(earlier.wait() for earlier in _running(thread.name)):
        thread.start()
        thread.wait()
    if answers:
        return Answer(answers[0])
    return Answer(otherwise(), f"The {what} could not be queried: {thread.failure}.")


class _QuestionThread(threading.Thread):
    """Asks. It cannot be stopped when it hangs in a driver, but it never holds up exit."""

    def __init__(self, what: str, question: Callable[[], None], seconds: float) -> None:
        super().__init__(name=f"nbllm asks about {what}", daemon=True)
        self._question = question
        self._deadline = time.monotonic() + seconds
        self.failure = "no response in time"

    def run(self) -> None:
        try:
            self._question()
        except Exception as error:  # noqa: BLE001 - drivers and odd machines raise all sorts
            self.failure = f"{type(error).__name__}: {error}"

    def wait(self) -> bool:
        """Wait until it has ended or its time is over; whether it has ended."""
        self.join(max(0.0, self._deadline - time.monotonic()))
        return not self.is_alive()


def _running(name: str) -> list[_QuestionThread]:
    threads = [thread for thread in threading.enumerate() if isinstance(thread, _QuestionThread)]
    return [thread for thread in threads if thread.name == name and thread.is_alive()]
