"""``%%llm --map DF``: the cell's prompt for every row of a DataFrame."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from nbllm.core.errors import BatchError, InvalidOptionError
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import capped
from nbllm.notebook.asking.question import AskFlags
from nbllm.notebook.asking.waiting import WantedModel
from nbllm.notebook.batch.frame_request import FrameRequest, run_flags
from nbllm.notebook.forms.type_expressions import named_type
from nbllm.notebook.prompts.scope import variables_in_scope
from nbllm.notebook.running_cell import Stopped

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.notebook.batch.frame_job import FrameJob
    from nbllm.notebook.batch.frame_run import FrameRun, RunInterrupt
    from nbllm.notebook.session import NotebookSession

__all__ = ["check_batch_flags", "map_cell"]

_NEVER = {
    "go_on": "--continue",
    "chat": "--chat",
    "overflow": "--overflow",
    "form": "--as",
    "allow_file": "--allow-file",
    "raw": "--raw",
    "show_prompt": "--show-prompt",
}


_NOT_KEPT = (
    ". What is finished is shown but not kept: -o VAR keeps it, and with --journal FILE the next "
    "run goes on where this one stopped"
)


def check_batch_flags(flags: AskFlags) -> None:
    """Raise ``UsageError`` for flags that do not go together."""
    if flags.frame is None:
        for name in flags.run:
            raise UsageError(f"{run_flags()[name]} needs --map DF")
        return
    for name, flag in _NEVER.items():
        if getattr(flags, name):
            raise UsageError(f"--map cannot be combined with {flag}; drop one")


def map_cell(
    session: NotebookSession, prompt: str, flags: AskFlags, frame: str
) -> pd.DataFrame | FrameJob:
    """The DataFrame ``frame`` with the answers as columns, also put into the variable of ``-o``.

    With ``--bg`` the job that makes it.
    """
    from nbllm.notebook.batch.frame import frame_run
    from nbllm.notebook.batch.frame_job import begin_frame_job

    wanted = WantedModel(session, flags.name or flags.model or session.settings.model or None)
    run = frame_run(_request(session, prompt.strip(), flags, frame, wanted.name), wanted.get)
    if flags.bg:
        result: pd.DataFrame | FrameJob = begin_frame_job(
            session, run, wanted, f"{frame}: {prompt.strip()}"
        )
    else:
        result = _awaited(session, flags, frame, run, wanted)
    if flags.output:
        session.shell.user_ns[flags.output] = result
    return result


def _request(
    session: NotebookSession, prompt: str, flags: AskFlags, frame: str, model: str | None
) -> FrameRequest:
    """What is asked; types and labels by the variables of whoever runs the cell."""
    scope, settings = variables_in_scope(session.shell), session.settings
    options = {**settings.options, **flags.options.set_values()}
    if settings.cell_limit:
        options.setdefault("max_tokens", settings.cell_limit)
    if flags.completion:
        options["raw"] = True
    run = dict(flags.run)
    if "decide" in run:
        run["decide"] = _decide(run["decide"], scope)
    system = flags.system if flags.system is not None else settings.system or None
    return FrameRequest(
        _frame(frame, scope),
        prompt,
        model=model,
        manager=session.manager,
        schema=named_type(flags.schema, scope) if flags.schema else None,
        system=None if flags.completion else system,
        preview_above=settings.preview_above or None,
        title=frame,
        **run,
        **{name: value for name, value in options.items() if value is not None},
    )


def _awaited(
    session: NotebookSession, flags: AskFlags, frame: str, run: FrameRun, wanted: WantedModel
) -> Any:
    from nbllm.notebook.batch.clusters import told_of_workers
    from nbllm.notebook.batch.frame_run import RunInterrupt

    try:
        with told_of_workers(run):
            return run.run(None, activity=lambda: wanted.activity, lines=wanted.lines)
    except RunInterrupt as stop:
        if run.asked is None:
            raise Stopped(f"Loading {wanted.title} was stopped. No row was asked.") from None
        raise _stopped(session, flags, frame, stop) from None
    except BatchError as error:
        if error.finished is not None:
            _keep(session, flags, error.finished)
        raise


def _stopped(session: NotebookSession, flags: AskFlags, frame: str, stop: RunInterrupt) -> Stopped:
    """What is said of an interrupt."""
    _keep(session, flags, stop.frame)
    kept = [flags.output, flags.run.get("journal")]
    places = " and ".join(place for place in kept if place)
    words = f"; what is finished is in {places}" if places else _NOT_KEPT
    again = " Run the cell again to go on." if kept[1] else ""
    return Stopped(f"The run over {frame} was stopped{words}.{f' {stop}' if str(stop) else again}")


def _keep(session: NotebookSession, flags: AskFlags, finished: Any) -> None:
    """Show what is finished, and keep it where the result would be."""
    from nbllm.notebook.batch.run_view import show_value

    show_value(finished)
    if flags.output:
        session.shell.user_ns[flags.output] = finished


def _frame(name: str, variables: Mapping[str, Any]) -> Any:
    import pandas as pd

    if name not in variables:
        frames = [key for key, value in variables.items() if isinstance(value, pd.DataFrame)]
        raise UsageError(f"--map: there is no variable {name!r}.{did_you_mean(name, frames)}")
    return variables[name]


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
