"""What happened: loads, unloads, failures and finished generations."""

from __future__ import annotations

from collections import deque
from datetime import datetime

from nbllm.core.forks import ChildSafeLock
from nbllm.core.history import GenerationRecord
from nbllm.core.manager_events import ManagerEvent
from nbllm.core.rendering.escaping import text_html
from nbllm.core.types import FinishReason
from nbllm.notebook.dashboard.sections import Section
from nbllm.notebook.dashboard.widgets import card, text

__all__ = ["LogPanel"]

SHOWN_LINES = 8
_EMPTY = '<span class="nbllm-soft">Loads, responses and errors appear here.</span>'


class LogPanel:
    """The last lines, the newest first. Any thread may add; ``update`` shows what was added.

    ``version`` grows with every line.
    """

    def __init__(self) -> None:
        self._lines: deque[tuple[datetime, str]] = deque(maxlen=SHOWN_LINES)
        self.version = 0
        self._lock = ChildSafeLock()
        self._text = text(_EMPTY)
        self.widget = card("Log", self._text)
        self.widget.add_class("nbllm-last")  # where there is one column only

    def add(self, words: str) -> None:
        """Add a line."""
        with self._lock:
            self._lines.append((datetime.now().astimezone(), words))
            self.version += 1

    def add_event(self, event: ManagerEvent) -> None:
        """Add what a manager tells of, but for its progress."""
        if event.kind != "progress":
            self.add(event.words)

    def add_record(self, record: GenerationRecord) -> None:
        """Add a generation that has ended."""
        tokens, speed = record.usage.completion_tokens, record.tokens_per_second
        failed = record.finish_reason is FinishReason.FAILED
        end = f"failed ({record.error})" if failed else str(record.finish_reason)
        rate = f" at {speed:,.0f} tokens/s" if speed else ""
        amount = "a response" if tokens is None else f"{tokens:,} tokens"
        self.add(f"{record.model} generated {amount}{rate} · {end}")

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
