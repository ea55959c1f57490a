"""What contributors and CI are told is what there is: sessions, hooks, workflow and pages."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
HEADINGS = ["Context", "Decision", "Consequences", "In the code"]
PAGES = [path for path in (ROOT / "CONTRIBUTING.md", *DECISIONS) if path.exists()]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sessions() -> set[str]:
    """The sessions of noxfile.py, without nox, which the tests do not need."""
    functions = [n for n in ast.parse(read("noxfile.py")).body if isinstance(n, ast.FunctionDef)]
    return {f.name for f in functions if "nox.session" in map(ast.unparse, f.decorator_list)}


def test_ci_calls_sessions_that_there_are() -> None:
    called = set(
        re.findall(r"^ +(?:phase \"[^\"]+\" )?session (\w+)", read(".ci/run"), re.MULTILINE)
    )
    assert {"lint", "format", "types", "contracts", "build"} <= called <= sessions()


def test_hooks_are_sessions() -> None:
    (local,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    entries = [hook["entry"] for hook in local["hooks"]]
    assert {entry.removeprefix("nox -s ") for entry in entries} <= sessions()


def test_the_workflow_runs_what_is_run_by_hand() -> None:
    (job,) = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


def test_issue_forms_are_complete() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
    assert len(forms) == 3
    for path in forms:
        form: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form.keys() == {"name", "description", "labels", "body"}
        assert all(field["attributes"]["label"] for field in form["body"])


def test_one_account_publishes() -> None:
    places = read("README.md") + read("pyproject.toml")
    assert len(set(re.findall(r"github\.com/(\w+)/nbllm\b", places))) == 1


def test_decisions_are_numbered_and_listed() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))
    listed = re.findall(
        r"^(\d+)\. \[(.+)\]\((.+)\)$", read("docs/decisions/README.md"), re.MULTILINE
    )
    titles = [path.read_text(encoding="utf-8").partition("\n")[0] for path in DECISIONS]
    assert [f"# {number}. {title}" for number, title, _ in listed] == titles
    assert [name for _, _, name in listed] == [path.name for path in DECISIONS]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_parts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_names_files_that_there_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`((?:nbllm|tests|docs|notebooks|binder|\.ci)/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_map_shows_every_room() -> None:
    package = ROOT / "nbllm"
    folders = [*package.iterdir(), *(package / "core").iterdir()]
    rooms = {
        f"`{p.relative_to(ROOT).as_posix()}/`" for p in folders if (p / "__init__.py").exists()
    }
    page = read("CONTRIBUTING.md")
    assert {room for room in rooms if room not in page} == set()
