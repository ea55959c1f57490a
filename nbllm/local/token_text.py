"""From the bytes of tokens to text that can be shown, with no engine in sight."""

from __future__ import annotations

import codecs

__all__ = ["TextAssembler"]


class TextAssembler:
    """The text of one answer, made from token bytes.

    A character is given out when it is whole, and text that may be the beginning of a stop
    string when it turned out not to be. ``stopped`` is the stop string that ended the answer;
    neither it nor anything behind it is part of the text.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = stop
        self._held = ""
        self.stopped: str | None = None

    def feed(self, piece: bytes) -> str:
        """The text that ``piece`` completes; may be empty. Nothing comes after a stop."""
        return self._release(self._decoder.decode(piece))

    def finish(self) -> str:
        """What was still held back, at the end of the answer."""
        text = self._release(self._decoder.decode(b"", final=True))
        if self.stopped is not None:
            return text
        held, self._held = self._held, ""
        return text + held

    def _release(self, text: str) -> str:
        if self.stopped is not None:
            return ""
        if not self._stop:
            return text
        pending = self._held + text
        found = self._first_stop(pending)
        if found is not None:
            start, self.stopped = found
            self._held = ""
            return pending[:start]
        keep = self._open_end(pending)
        self._held = pending[len(pending) - keep :]
        return pending[: len(pending) - keep]

    def _first_stop(self, text: str) -> tuple[int, str] | None:
        """The earliest stop string in ``text``; of those at one place the first that was given."""
        found = [(text.find(stop), order) for order, stop in enumerate(self._stop) if stop in text]
        if not found:
            return None
        start, order = min(found)
        return start, self._stop[order]

    def _open_end(self, text: str) -> int:
        """How many characters at the end of ``text`` may begin a stop string."""
        return max(
            (
                length
                for stop in self._stop
                for length in range(1, min(len(stop) - 1, len(text)) + 1)
                if text.endswith(stop[:length])
            ),
            default=0,
        )
