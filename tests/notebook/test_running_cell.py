"""How a failure looks in a cell, and in which colours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nbllm.core.errors import InvalidOptionError
from nbllm.notebook.running_cell import brief_errors, shows_colours


def test_an_error_that_leaves_a_magic_is_shown_by_its_message_alone() -> None:
    with pytest.raises(InvalidOptionError) as caught, brief_errors():
        raise InvalidOptionError("max_tokens", "must be at least 1 (got 0)")
    error: Any = caught.value
    (line,) = error._render_traceback_()
    assert "InvalidOptionError" in line
    assert line.endswith(f": {error}")
    with pytest.raises(KeyError) as other, brief_errors():
        raise KeyError("x")
    assert not hasattr(other.value, "_render_traceback_")


@pytest.mark.parametrize(
    ("colors", "is_terminal", "variables", "expected"),
    [
        ("Linux", True, {}, True),
        ("NoColor", True, {}, False),
        ("nocolor", True, {}, False),
        ("Linux", False, {}, False),
        ("Linux", True, {"NO_COLOR": "1"}, False),
        ("Linux", True, {"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_has_colours_unless_they_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    colors: str,
    is_terminal: bool,
    variables: dict[str, str],
    expected: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shell: Any = SimpleNamespace(colors=colors)
    out: Any = SimpleNamespace(isatty=lambda: is_terminal)
    assert shows_colours(shell, out) is expected
