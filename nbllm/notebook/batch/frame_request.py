"""What a run over a table is asked with: the one table of its options.

An option is a field here, and nothing else: the signature and the documentation of
``nbllm.map_frame``, the flags of ``%%llm --map``, and how messages name the option derive from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, partial
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from nbllm.batches.batch_rows import BatchTick
from nbllm.batches.conflicts import check_apart
from nbllm.batches.limits import Limits
from nbllm.batches.spread import check_concurrency
from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.option_checks import check_number
from nbllm.core.option_names import Written
from nbllm.core.texts import shown
from nbllm.core.types import GenerationOptions
from nbllm.notebook.flags import Argument, flag, flagged_options
from nbllm.notebook.forms.type_expressions import TypeExpression
from nbllm.notebook.magic_line import numeral, share

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client

    from nbllm.core.model_manager import ModelManager
    from nbllm.notebook.loaded_model import LoadedModel

__all__ = [
    "PREVIEW_ABOVE",
    "FrameRequest",
    "cell_form",
    "explained_options",
    "map_flags",
    "run_flags",
    "signature_of_options",
]

PREVIEW_ABOVE = 1_000
"""Runs over more rows show their first ones, and what the rest will take, unless told otherwise."""


def _share(word: str) -> Any:
    """A share such as "1%" or "0.01"; the option itself refuses other words."""
    try:
        return share(word)
    except UsageError:
        return numeral(word)


@dataclass(frozen=True, slots=True)
class _RunOption:
    """How an option is explained, and the flag of ``%%llm --map`` that sets it, if there is one.

    ``typed`` reads the flag's value; None for a switch. ``shared`` flags belong to ``%%llm`` itself
    and are not declared here.
    """

    about: str
    flag: str = ""
    metavar: str = ""
    typed: Callable[[str], Any] | None = None
    shared: bool = False

    @property
    def written(self) -> Written:
        return Written(self.flag, f"{self.flag} {self.metavar}".rstrip())


def _option(default: Any, about: str, flag: str = "", metavar: str = "", **rest: Any) -> Any:
    return field(default=default, metadata={"run": _RunOption(about, flag, metavar, **rest)})


_shared = partial(_option, shared=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class FrameRequest(GenerationOptions):
    """A table, the prompt for its rows, and the options of the run and of each answer.

    Raises ``InvalidOptionError`` for options that nothing could be asked with.
    """

    df: pd.DataFrame | pd.Series[Any] | dd.DataFrame = field(kw_only=False)
    template: str = field(kw_only=False)
    model: str | os.PathLike[str] | ModelInterface | LoadedModel | None = _option(
        None, "The model's name, or a loaded model. Default: the one used last, or the bundled one."
    )
    schema: Any = _shared(
        None,
        "A JSON schema, a type or a dataclass: each of its properties becomes a column.",
        "--schema",
        "TYPE",
    )
    decide: Mapping[str, Any] | None = _option(
        None,
        "Choose among labels, with their probabilities, as in "
        '{"team": ["red", "blue"], "urgent": bool, "tone": range(1, 6)}.',
        "--decide",
        "LABELS",
        typed=TypeExpression,
    )
    calibrate: bool = _option(
        False,
        "Take what the model prefers over all rows out of the probabilities of the labels; small "
        "models need it.",
        "--calibrate",
    )
    into: str | None = _option(
        None,
        'The name of the new column (default: "answer"), or what the names of several begin with.',
        "--into",
        "NAME",
        typed=str,
    )
    system: str | None = _shared(
        None, "System prompt: instructions before the prompt.", "--system", "TEXT"
    )
    details: bool = _option(
        False, "Columns for finish reasons, tokens and costs as well.", "--details"
    )
    dry_run: bool = _option(
        False,
        "Ask 5 rows only, and estimate the tokens, time and price of the others.",
        "--dry-run",
    )
    concurrency: int | None = _option(
        None,
        "How many rows are asked at a time. Default: what the model has sequences for; vendors 8.",
        "--concurrency",
        "N",
        typed=numeral,
    )
    journal: str | os.PathLike[str] | None = _option(
        None,
        "A file that keeps finished rows: the same run goes on where it stopped, and asks none "
        "twice.",
        "--journal",
        "FILE",
        typed=str,
    )
    retry_failed: bool = _option(True, "Ask rows again that the journal has as failed.")
    max_failures: float = _option(
        0.5,
        "Stop where more than this share of the rows fails.",
        "--max-failures",
        "SHARE",
        typed=_share,
    )
    max_cost: float | None = _option(
        None, "Stop before it costs more, in US dollars.", "--max-cost", "USD", typed=numeral
    )
    max_total_tokens: int | None = _option(
        None,
        "Stop before prompts and answers together have more tokens.",
        "--max-total-tokens",
        "N",
        typed=numeral,
    )
    preview_above: int | None = _option(
        PREVIEW_ABOVE,
        "Runs over more rows than this show the first 5 and an estimate before they go on; None "
        "never does.",
    )
    title: str = _option("", "The run's name in the dashboard and the statistics.")
    batch_api: bool = _option(
        False,
        "Send the rows to the vendor's batch API (OpenAI, Anthropic, Gemini): within a day and for "
        "half the price.",
        "--batch-api",
    )
    cancel_batch: bool = _option(
        False,
        "Cancel what the vendor's batch API has of this run, and return what is done by then.",
        "--cancel-batch",
    )
    client: Client | None = _option(None, "A Dask client: the workers of its cluster answer.")
    manager: ModelManager | None = _option(None, "The manager that loads the model.")
    progress: BatchTick | None = _option(
        None, "Called with the progress and each finished row, in place of the progress bar."
    )

    @property
    def generation(self) -> GenerationOptions:
        """The options of each answer alone."""
        return GenerationOptions(**self.set_values())

    def _check_together(self) -> None:
        GenerationOptions._check_together(self)  # noqa: SLF001 - slots break super()
        Limits(self.max_cost, self.max_total_tokens)
        check_number("max_failures", self.max_failures, 0, 1)
        check_concurrency(self.concurrency)
        for name in ("template", "title"):
            _check_text(name, getattr(self, name))
        _check_text("into", self.into, is_optional=True)
        if self.into is not None and not self.into.strip():
            raise InvalidOptionError("into", "must not be empty; give the new column a name")
        _check_text("system", self.system, is_optional=True)
        for name, (kind, what) in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InvalidOptionError(name, f"must be {what} (got {shown(value)})")
        check_number("preview_above", self.preview_above, 0, _MOST_ROWS, whole=True)
        _check_model(self.model)
        check_apart({each.name: getattr(self, each.name) for each in _fields()})


_MOST_ROWS = 10**12
_SWITCH = (bool, "True or False")
_KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("calibrate", "details", "dry_run", "retry_failed"), _SWITCH),
    **dict.fromkeys(("batch_api", "cancel_batch"), _SWITCH),
    "journal": (str | os.PathLike, "the path of a file"),
    "progress": (Callable, "a function of the progress and a row"),
}


def _check_model(model: Any) -> None:
    """What ``nbllm.load`` returns has its model as ``model``."""
    is_name = model is None or isinstance(model, str | os.PathLike)
    if not is_name and not isinstance(getattr(model, "model", model), ModelInterface):
        problem = f"must be a model's name, or a loaded model (got {shown(model)})"
        raise InvalidOptionError("model", problem)


def _check_text(name: str, value: object, *, is_optional: bool = False) -> None:
    if not isinstance(value, str) and not (is_optional and value is None):
        raise InvalidOptionError(name, f"must be a string (got {shown(value)})")


@cache
def _table() -> dict[str, _RunOption]:
    return {each.name: each.metadata["run"] for each in _fields() if "run" in each.metadata}


def _fields() -> tuple[Any, ...]:
    kind: Any = FrameRequest
    return fields(kind)


def explained_options() -> dict[str, str]:
    """What each option of a run does, by its name."""
    return {name: each.about for name, each in _table().items()}


def signature_of_options() -> Signature:
    """That of the constructor, the options of the run before those of its answers."""
    parameters = [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY if each.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if each.default is MISSING else each.default,
            annotation=each.type,
        )
        for each in _fields()
    ]
    own = FrameRequest.__annotations__
    parameters.sort(key=lambda each: (each.kind, each.name not in own))
    return Signature(parameters)


@cache
def run_flags() -> dict[str, str]:
    """The flags of ``%%llm`` that are for ``--map`` alone, by the option that each sets."""
    return {name: each.flag for name, each in _table().items() if each.flag and not each.shared}


def map_flags() -> tuple[Argument, ...]:
    """The same flags as a parser takes them."""
    return tuple(_argument(name, _table()[name]) for name in run_flags())


def _argument(name: str, declared: _RunOption) -> Argument:
    about = f"With --map: {declared.about[0].lower()}{declared.about[1:]}".replace("%", "%%")
    if declared.typed is None:
        return flag(declared.flag, dest=name, action="store_true", default=None, help=about)
    return flag(declared.flag, dest=name, metavar=declared.metavar, type=declared.typed, help=about)


def cell_form(frame: str) -> dict[str, Written]:
    """How options are written in a cell whose DataFrame is the variable ``frame``."""
    answers = {
        name: Written(each.flags[-1], f"{each.flags[-1]} {each.metavar or each.kind.metavar}")
        for name, each in flagged_options("generation").items()
    }
    runs = {name: each.written for name, each in _table().items() if each.flag}
    words = {"df": frame, "template": "the prompt", "prompt": "the prompt", "model": "the model"}
    return {**answers, **runs, **{name: Written(word, word) for name, word in words.items()}}
