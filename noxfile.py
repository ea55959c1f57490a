"""The checks of this repository by name: ``nox -l`` lists them, ``nox`` runs the quick ones.

They run in the environment that nox itself is installed in (``pip install -e ".[dev]"``), so that
nothing is downloaded for them. ``.ci/run`` runs all of them, and what needs a machine of its own.
"""

from __future__ import annotations

import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "format", "types", "contracts"]


def python(session: nox.Session, *arguments: str) -> None:
    """Run a module of this environment, wherever the shell's PATH leads."""
    session.run(sys.executable, "-m", *arguments, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the code with ruff; ``nox -s lint -- --fix`` mends what it can."""
    python(session, "ruff", "check", *session.posargs)


@nox.session
def format(session: nox.Session) -> None:  # noqa: A001 - the name on the command line
    """Check the layout with ruff; run ``ruff format`` to mend it."""
    python(session, "ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy, strictly."""
    python(session, "mypy")


@nox.session
def contracts(session: nox.Session) -> None:
    """Check which part imports which, as pyproject.toml allows it."""
    code = "import sys; from importlinter.cli import lint_imports_command as main; sys.exit(main())"
    session.run(sys.executable, "-c", code, "--no-cache", external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests: all, or those named after ``--``."""
    python(session, "pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure the tests' coverage, which must reach the floor; slow, so run on demand."""
    # Tests that bound a time may fail beside the tracer; whether all pass, the tests alone say.
    tests = ["pytest", "--cov", "--cov-report=", *session.posargs]
    session.run(sys.executable, "-m", *tests, external=True, success_codes=[0, 1])
    python(session, "coverage", "report", "--skip-covered")


@nox.session
def house(session: nox.Session) -> None:
    """Print the figures of the package's structure (``-- --names`` for what was counted)."""
    session.run(sys.executable, ".ci/house.py", *session.posargs, external=True)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into dist/, or into the folder named after ``--``."""
    python(session, "build", "--outdir", *(session.posargs or ["dist"]))
