"""``%%llm --map DF``: the cell's prompt for every row of a DataFrame."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbllm.core.errors import BatchError, InvalidOptionError
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import capped
from nbllm.notebook.asking.question import AskFlags
from nbllm.notebook.forms.type_expressions import named_type
from nbllm.notebook.prompts.scope import variables_in_scope
from nbllm.notebook.running_cell import Stopped

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.notebook.batch.frame_job import FrameJob
    from nbllm.notebook.batch.frame_run import FrameRun, RunInterrupt
    from nbllm.notebook.session import NotebookSession

__all__ = ["check_batch_flags", "map_cell"]

_ONLY = {
    "into": "--into",
    "decide": "--decide",
    "calibrate": "--calibrate",
    "dry_run": "--dry-run",
    "journal": "--journal",
    "max_cost": "--max-cost",
    "max_total_tokens": "--max-total-tokens",
    "batch_api": "--batch-api",
    "cancel_batch": "--cancel-batch",
}
_NEVER = {"chat": "--chat", "form": "--as", "show_prompt": "--show-prompt"}


def check_batch_flags(flags: AskFlags) -> None:
    """Raise ``InvalidOptionError`` for flags that do not go together."""
    if flags.frame is None:
        for name, flag in _ONLY.items():
            if getattr(flags, name) not in (None, False):
                raise InvalidOptionError(name, f"{flag} needs --map DF")
        return
    for name, flag in _NEVER.items():
        if getattr(flags, name) not in (None, False):
            raise InvalidOptionError("map", f"cannot be combined with {flag}")


def map_cell(
    session: NotebookSession, prompt: str, flags: AskFlags, frame: str
) -> pd.DataFrame | FrameJob:
    """The DataFrame ``frame`` with the answers as columns, also put into the variable of ``-o``.

    With ``--bg`` the job that makes it.
    """
    from nbllm.notebook.batch.frame import frame_run
    from nbllm.notebook.batch.frame_job import begin_frame_job

    scope = variables_in_scope(session.shell)
    settings = session.settings
    options = {**settings.options, **flags.options.set_values()}
    if settings.cell_limit:
        options.setdefault("max_tokens", settings.cell_limit)
    run = frame_run(
        _frame(frame, scope),
        prompt.strip(),
        model=flags.name or flags.model or settings.model or None,
        schema=named_type(flags.schema, scope) if flags.schema else None,
        decide=_decide(flags.decide, scope) if flags.decide else None,
        calibrate=flags.calibrate,
        into=flags.into,
        system=flags.system if flags.system is not None else settings.system or None,
        dry_run=flags.dry_run,
        journal=flags.journal,
        max_cost=flags.max_cost,
        max_total_tokens=flags.max_total_tokens,
        preview_above=settings.preview_above or None,
        title=frame,
        batch_api=flags.batch_api,
        cancel_batch=flags.cancel_batch,
        manager=session.manager,
        **{name: value for name, value in options.items() if value is not None},
    )
    if flags.bg:
        result: pd.DataFrame | FrameJob = begin_frame_job(
            session, run, f"{frame}: {prompt.strip()}"
        )
    else:
        result = _awaited(session, flags, frame, run)
    if flags.output:
        session.shell.user_ns[flags.output] = result
    return result


def _awaited(session: NotebookSession, flags: AskFlags, frame: str, run: FrameRun) -> Any:
    from nbllm.notebook.batch.clusters import told_of_workers
    from nbllm.notebook.batch.frame_run import RunInterrupt

    try:
        with told_of_workers(run.model):
            return run.run(None)
    except RunInterrupt as stop:
        raise _stopped(session, flags, frame, stop) from None
    except BatchError as error:
        if error.finished is not None:
            _keep(session, flags, error.finished)
        raise


def _stopped(session: NotebookSession, flags: AskFlags, frame: str, stop: RunInterrupt) -> Stopped:
    """What is said of an interrupt."""
    _keep(session, flags, stop.frame)
    kept = [flags.output, flags.journal]
    places = " and ".join(place for place in kept if place)
    words = (
        f"; what is finished is in {places}" if places else "; name a variable with -o to keep it"
    )
    at_vendor = f" {stop}" if str(stop) else ""
    return Stopped(f"The run over {frame} was stopped{words}.{at_vendor}")


def _keep(session: NotebookSession, flags: AskFlags, finished: Any) -> None:
    """Show what is finished, and keep it where the result would be."""
    from nbllm.notebook.batch.run_view import show_value

    show_value(finished)
    if flags.output:
        session.shell.user_ns[flags.output] = finished


def _frame(name: str, variables: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    from nbllm.notebook.batch.dask_tables import is_dask_frame

    if name not in variables:
        frames = [key for key, value in variables.items() if isinstance(value, pd.DataFrame)]
        raise InvalidOptionError(
            "map", f"there is no variable {name!r}.{did_you_mean(name, frames)}"
        )
    value = variables[name]
    if isinstance(value, pd.Series):
        return value.to_frame(value.name or "text")
    if not isinstance(value, pd.DataFrame) and not is_dask_frame(value):
        raise InvalidOptionError("map", f"{name} is a {type(value).__name__}, not a DataFrame")
    found: pd.DataFrame = value
    return found


def _decide(written: str, variables: Mapping[str, Any]) -> Any:
    """What ``--decide`` names: a variable, or a dict whose values are types, lists or ranges."""
    try:
        tree = ast.parse(written.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        problem = f'{capped(written, 80)} is not a dict; write {{"urgent": bool}}'
        raise InvalidOptionError("decide", problem) from None
    if not isinstance(tree, ast.Dict):
        return _meant(tree, variables)
    return {
        _text_of(key): _choices(value, variables)
        for key, value in zip(tree.keys, tree.values, strict=True)
    }


def _text_of(key: ast.expr | None) -> str:
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        return key.value
    raise InvalidOptionError("decide", "each question needs a name in quotes")


def _choices(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    """Labels as they are written; of all that may be called, ``range`` is."""
    match node:
        case ast.Call(ast.Name("range"), [*bounds], []):
            numbers = [_meant(bound, variables) for bound in bounds]
            if not all(type(number) is int for number in numbers) or len(numbers) not in (1, 2, 3):
                raise InvalidOptionError("decide", f"{ast.unparse(node)} needs whole numbers")
            return range(*numbers)
        case _:
            return _meant(node, variables)


def _meant(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    try:
        return named_type(ast.unparse(node), variables)
    except InvalidOptionError as error:
        raise InvalidOptionError("decide", error.problem) from None
