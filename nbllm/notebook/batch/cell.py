"""``%%llm --map DF``: the cell's prompt for every row of a DataFrame."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.suggest import did_you_mean
from nbllm.core.types import GenerationOptions
from nbllm.notebook.asking.flags import OPTIONS
from nbllm.notebook.failures import Stopped
from nbllm.notebook.forms.type_expressions import named_type
from nbllm.notebook.prompts.scope import variables_in_scope

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.notebook.session import NotebookSession

__all__ = ["check_batch_flags", "map_cell"]

_ONLY = {"into": "--into", "dry_run": "--dry-run", "journal": "--journal", "max_cost": "--max-cost"}
_NEVER = {"chat": "--chat", "bg": "--bg", "form": "--as", "show_prompt": "--show-prompt"}


def check_batch_flags(args: Namespace) -> None:
    """Raise ``InvalidOptionError`` for flags that do not go together."""
    if args.frame is None:
        for name, flag in _ONLY.items():
            if getattr(args, name) not in (None, False):
                raise InvalidOptionError(name, f"{flag} needs --map DF")
        return
    for name, flag in _NEVER.items():
        if getattr(args, name, None) not in (None, False):
            raise InvalidOptionError("map", f"cannot be combined with {flag}")


def map_cell(session: NotebookSession, prompt: str, args: Namespace) -> pd.DataFrame:
    """The DataFrame with the answers as columns; it is also put into ``-o``'s variable."""
    from nbllm.notebook.batch.frame import map_frame

    scope = variables_in_scope(session.shell)
    flags = GenerationOptions(**{name: getattr(args, name) for name in OPTIONS})
    settings = session.settings
    options = {**settings.options, **flags.set_values()}
    if settings.cell_limit:
        options.setdefault("max_tokens", settings.cell_limit)
    try:
        result = map_frame(
            _frame(args.frame, scope),
            prompt.strip(),
            model=args.name or args.model or settings.model or None,
            schema=named_type(args.schema, scope) if args.schema else None,
            into=args.into,
            system=args.system if args.system is not None else settings.system or None,
            dry_run=args.dry_run,
            journal=args.journal,
            max_cost=args.max_cost,
            manager=session.manager,
            **{name: value for name, value in options.items() if value is not None},
        )
    except KeyboardInterrupt:
        kept = f"; what is finished is in {args.journal}" if args.journal else ""
        raise Stopped(f"The run over {args.frame} was stopped{kept}.") from None
    if args.output:
        session.shell.user_ns[args.output] = result
    return result


def _frame(name: str, variables: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    if name not in variables:
        frames = [key for key, value in variables.items() if isinstance(value, pd.DataFrame)]
        raise InvalidOptionError(
            "map", f"there is no variable {name!r}.{did_you_mean(name, frames)}"
        )
    value = variables[name]
    if isinstance(value, pd.Series):
        return value.to_frame(value.name or "text")
    if not isinstance(value, pd.DataFrame):
        raise InvalidOptionError("map", f"{name} is a {type(value).__name__}, not a DataFrame")
    return value
