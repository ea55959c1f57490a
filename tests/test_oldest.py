"""The lowest versions that are promised are those that are tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def test_the_lowest_versions_that_are_promised_are_pinned_for_their_tests() -> None:
    tomllib: Any = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins: dict[str, str] = {}
    for name, version in re.findall(
        r"^([\w-]+)==([\w.]+)", (ROOT / ".ci" / "oldest.txt").read_text(), re.MULTILINE
    ):
        pins.setdefault(name, version)
    for text in project["dependencies"]:
        needed = Requirement(text)
        lowest = min(str(each.version) for each in needed.specifier)
        assert needed.specifier.contains(pins[needed.name]), needed
        assert pins[needed.name].startswith(lowest), needed
