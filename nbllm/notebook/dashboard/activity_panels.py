"""What happens: the requests that run, and a log of what the manager tells."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nbllm.core.forks import ChildSafeLock
from nbllm.core.generation import Generation
from nbllm.core.history import GenerationRecord
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.rendering.escaping import attribute_html, text_html
from nbllm.core.types import FinishReason
from nbllm.core.words import counted, duration_words
from nbllm.notebook.dashboard.saved_view import Section
from nbllm.notebook.dashboard.widgets import box, button, card, set_children, text

__all__ = ["LogPanel", "RequestPanel"]

_EMPTY = '<span class="nbllm-soft">No request is running.</span>'


class RequestPanel:
    """A row for each request, from its beginning to its end, and one for all those of a run."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row | _RunRow] = {}
        self._empty = text(_EMPTY)
        self._list = box([self._empty])
        self.widget = card("Running requests", self._list)

    def update(self, running: Sequence[Generation]) -> None:
        """Show these."""
        known = self._rows
        self._rows = {}
        for each in running:
            key = id(each.run or each)
            if key not in self._rows:
                self._rows[key] = known.get(key) or (_RunRow(each) if each.run else _Row(each))
        for row in self._rows.values():
            row.update()
        self._empty.value = "" if running else _EMPTY
        set_children(self._list, [self._empty, *(row.widget for row in self._rows.values())])

    @property
    def section(self) -> Section:
        """The requests as they are now."""
        return Section("Running requests", tuple(row.saved for row in self._rows.values()))


class _Row:
    def __init__(self, generation: Generation) -> None:
        self._generation = generation  # kept, so that its id is nobody else's meanwhile
        name, prompt = generation.model, generation.beginning
        head = f'<b title="{attribute_html(name)}">{text_html(name)}</b>'
        asked = f'<div class="nbllm-asked" dir="auto" title="{attribute_html(prompt)}">'
        self._cells = text()
        self._stop = button("Stop", "Stop this request; the text so far is kept", self._press)
        self.widget: Any = box(
            [
                text(f'<div class="nbllm-model-name">{head}</div>{asked}{text_html(prompt)}</div>'),
                box([self._cells, self._stop], "nbllm-line"),
            ],
            "nbllm-row",
        )

    def update(self) -> None:
        generation = self._generation
        route, device = generation.route, generation.device
        where = f"{route.member} on {device} ({route.reason})" if route else device
        about = f"{where} · {duration_words(generation.seconds)}"
        self._cells.value = (
            f'<div class="nbllm-details"><div>{_state(generation)} · {_speed(generation)}</div>'
            f'<div class="nbllm-soft">{text_html(about)}</div></div>'
        )

    @property
    def saved(self) -> tuple[str, ...]:
        generation = self._generation
        return (generation.model, generation.beginning, _state(generation), _speed(generation))

    def _press(self) -> None:
        self._stop.disabled = True
        self._generation.cancel()


class _RunRow:
    """A run over many prompts, of which ``generation`` is one."""

    def __init__(self, generation: Generation) -> None:
        assert generation.run is not None  # noqa: S101 - for the type checker: it is asked before
        self._run, self._model, self._device = generation.run, generation.model, generation.device
        self._began = time.monotonic()
        self._cells = text()
        self._stop = button(
            "Stop", "Stop this run; its journal keeps what is finished", self._press
        )
        head = f'<b title="{attribute_html(self._model)}">{text_html(self._model)}</b>'
        asked = f'<div class="nbllm-asked" dir="auto">{text_html(self._run.title)}</div>'
        self.widget: Any = box(
            [
                text(f'<div class="nbllm-model-name">{head}</div>{asked}'),
                box([self._cells, self._stop], "nbllm-line"),
            ],
            "nbllm-row",
        )

    def update(self) -> None:
        about = f"{self._device} · {duration_words(time.monotonic() - self._began)}"
        self._cells.value = (
            f'<div class="nbllm-details"><div>{text_html(self._run.words)}</div>'
            f'<div class="nbllm-soft">{text_html(about)}</div></div>'
        )

    @property
    def saved(self) -> tuple[str, ...]:
        return (self._model, self._run.title, self._run.words, "")

    def _press(self) -> None:
        self._stop.disabled = True
        self._run.stop()


_PHASES = {"reading": "prefill", "writing": "decode"}


def _state(generation: Generation) -> str:
    prompt = generation.prompt
    if generation.phase == "reading" and prompt is not None and prompt.total:
        return f"prefill {prompt.processed / prompt.total:.0%}"
    return _PHASES.get(generation.phase, generation.phase)


def _speed(generation: Generation) -> str:
    speed = generation.tokens_per_second
    rate = f" · {speed:,.0f} tokens/s" if speed else ""
    return f"{counted(generation.tokens, 'token')}{rate}"


SHOWN_LINES = 8
_NO_LINES = '<span class="nbllm-soft">Loads, responses and errors appear here.</span>'


class LogPanel:
    """The last lines, the newest first. Any thread may add; ``update`` shows what was added.

    ``version`` grows with every line.
    """

    def __init__(self) -> None:
        self._lines: deque[tuple[datetime, str]] = deque(maxlen=SHOWN_LINES)
        self._last_run = 0
        self.version = 0
        self._lock = ChildSafeLock()
        self._text = text(_NO_LINES)
        self.widget = card("Log", self._text)
        self.widget.add_class("nbllm-last")  # where there is one column only

    def add(self, words: str) -> None:
        """Add a line."""
        self._put(words)

    def _put(self, words: str, run: int = 0) -> None:
        """A line, in the place of the last one where that was of the same ``run``."""
        with self._lock:
            if run and run == self._last_run and self._lines:
                self._lines.pop()
            self._last_run = run
            self._lines.append((datetime.now().astimezone(), words))
            self.version += 1

    def add_event(self, event: ManagerEvent) -> None:
        """Add what a manager tells of, but for its progress."""
        if event.kind != "progress":
            self.add(event.words)

    def add_record(self, record: GenerationRecord) -> None:
        """Add a generation that has ended."""
        if record.run is not None:
            words = f"{record.model} worked on {record.run.title} · {record.run.words}"
            self._put(words, record.run.number)
            return
        tokens, speed = record.usage.completion_tokens, record.tokens_per_second
        failed = record.finish_reason is FinishReason.FAILED
        end = f"failed ({record.error})" if failed else str(record.finish_reason)
        rate = f" at {speed:,.0f} tokens/s" if speed else ""
        amount = "a response" if tokens is None else counted(tokens, "token")
        route = f" {record.route}" if record.route else ""
        self.add(f"{record.model}{route} generated {amount}{rate} · {end}")

    def update(self) -> None:
        """Show the lines."""
        with self._lock:
            lines = [*reversed(self._lines)]
        if lines:
            rows = (
                f"<time>{at:%H:%M:%S}</time><div>{text_html(words)}</div>" for at, words in lines
            )
            self._text.value = f'<div class="nbllm-log">{"".join(rows)}</div>'

    @property
    def section(self) -> Section:
        """The lines, the newest first."""
        with self._lock:
            lines = [*reversed(self._lines)]
        return Section("Log", tuple((f"{at:%H:%M:%S}", words) for at, words in lines))
