"""``nbllm.map_frame``: a prompt for each row of a DataFrame, the answers as columns."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nbllm.batches.batch import check_journal
from nbllm.core.errors import InvalidOptionError, ModelNotFoundError
from nbllm.core.kinds import kind_of
from nbllm.core.managed_model import without_batch_api
from nbllm.core.model_interface import ModelInterface
from nbllm.core.model_manager import default_manager
from nbllm.core.option_names import option_name
from nbllm.core.schemas.answer_schemas import schema_or_decision
from nbllm.core.suggest import did_you_mean
from nbllm.core.texts import capped
from nbllm.notebook.batch.clusters import cluster_model, told_of_workers
from nbllm.notebook.batch.dask_tables import DaskTable, is_dask_frame
from nbllm.notebook.batch.frame_batch import FrameBatch
from nbllm.notebook.batch.frame_request import (
    FrameRequest,
    explained_options,
    signature_of_options,
)
from nbllm.notebook.batch.frame_run import FrameRun, HowFar

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.types import ModelInfo

__all__ = ["frame_run", "map_frame"]

P = ParamSpec("P")
R = TypeVar("R")

_HOW = {
    "ndarray": "pd.DataFrame({name}, columns=[…])",
    "str": "pd.read_csv({name}) if it is a file",
    "LazyFrame": "{name}.collect()",
    "NoneType": "pd.DataFrame(…)",
    "type": "pd.DataFrame(…)",
    "DataFrameGroupBy": "{name}.obj, or what it is aggregated to",
}


def _taking_options(
    kind: Callable[P, FrameRequest],
) -> Callable[[Callable[[FrameRequest], R]], Callable[P, R]]:
    """Decorates a function of a request: it takes what makes the request.

    Its docstring explains every option. Raises ``InvalidOptionError`` for an unknown one.
    """
    signature = signature_of_options()

    def decorate(function: Callable[[FrameRequest], R]) -> Callable[P, R]:
        @wraps(function)
        def ask(*args: P.args, **options: P.kwargs) -> R:
            for name in options:
                if name not in signature.parameters:
                    hint = did_you_mean(name, signature.parameters)
                    raise InvalidOptionError(name, f"unknown option.{hint}")
            signature.bind(*args, **options)  # whose TypeError names what is missing
            return function(kind(*args, **options))

        explained = [f"        {name}: {about}" for name, about in explained_options().items()]
        ask.__doc__ = "\n".join([(function.__doc__ or "").rstrip(), "", "    Args:", *explained])
        ask.__dict__.pop("__wrapped__")
        returned = function.__annotations__.get("return", Signature.empty)
        ask.__dict__["__signature__"] = signature.replace(return_annotation=returned)
        kinds = {name: each.annotation for name, each in signature.parameters.items()}
        ask.__annotations__ = {**kinds, "return": returned}
        return ask

    return decorate


@_taking_options(FrameRequest)
def map_frame(request: FrameRequest) -> pd.DataFrame:
    """Ask a model about every row of ``df``, and return it with the answers as new columns.

    ``template`` is the prompt, with ``{column}`` where a row's value belongs; nothing in it is
    evaluated. Without a ``schema`` the answers are a column of texts called ``into`` ("answer");
    with one, a column for each property, with the dtype that it says, named ``into`` and the
    property where ``into`` is given. A text of the format "date" becomes a ``datetime64[us]``, one
    of "date-time" a ``datetime64[us, UTC]``, in UTC where it has no offset; what is no date is
    missing, with the row's error. Index, order and columns of ``df`` stay, and ``df`` itself is
    not changed. ``decide`` has a column for each question with the most probable label, and one
    with its probability, which is missing where the model tells none; see
    ``ModelInterface.decide``. A row that fails has missing values, and its reason in a column
    ``error``.

    ``df`` may be a Series too, and whatever has ``to_pandas``, such as a table of Polars or
    PyArrow; the result is a DataFrame of pandas. Of a Dask DataFrame the template's columns are
    computed and brought here, the rows are asked by the cluster of ``client`` or of Dask's default
    one, by this machine where there is none, and the result is a Dask DataFrame with the same
    partitions.

    A vendor's batch API goes on when the call is interrupted or the kernel restarts: the same call
    takes its batch up again. The workers of a Dask cluster load the model by their own machine's
    memory, find it by their own files, and use the keys of their own environment; a lost worker's
    rows are asked on others, and a warning says which workers cannot load the model, and why.

    An interrupt ends the run with a ``KeyboardInterrupt`` whose ``frame`` has what is finished,
    a ``BatchError`` has it as ``finished``; a ``journal`` keeps it too. Works where nothing can be
    awaited. Raises ``InvalidOptionError``, ``BatchError``, and what loading raises.
    """
    whole = frame_run(request)
    with told_of_workers(whole):
        answered: pd.DataFrame = whole.run(request.progress)
    return answered


def frame_run(
    request: FrameRequest, find: Callable[[], Awaitable[ModelInterface]] | None = None
) -> FrameRun:
    """What ``map_frame`` does, with nothing loaded and nothing asked yet.

    ``find`` finds or loads the model. Raises ``InvalidOptionError`` for what can be told by the
    table and the options alone.
    """
    wanted, table = schema_or_decision(request.schema, request.decide), None
    df, client = pandas_frame(request.df), request.client
    batch = FrameBatch.of(
        df._meta if is_dask_frame(df) else df,  # noqa: SLF001 - Dask's way to tell the columns
        request.template,
        schema=wanted,
        into=request.into,
        details=request.details,
    )
    if is_dask_frame(df):
        table = DaskTable.of(df, batch, client)
        df, client = table.frame, None if _by_vendor(request) else table.client
        batch = batch.over(df)
    else:
        df = df.copy(deep=False)  # whose rows stay those that are asked, whatever is done to df
    _check_without_model(request)
    if client is not None:
        find = partial(_awaitable, cluster_model(client, request.model, request.manager))
    return FrameRun(
        request,
        df,
        batch,
        _how(request, len(df)),
        find=find or partial(_loaded, request),
        schema=wanted,
        joined=table.joined if table is not None and not request.dry_run else _itself,
    )


def _by_vendor(request: FrameRequest) -> bool:
    return request.batch_api or request.cancel_batch


def _check_without_model(request: FrameRequest) -> None:
    """Refuse what can be told by the files and the model's entry, before a model is loaded."""
    is_dry_of_vendor = request.dry_run and _by_vendor(request)  # which keeps nothing
    if request.journal is not None and not is_dry_of_vendor:
        check_journal(Path(request.journal), batch_api=_by_vendor(request))
    if _by_vendor(request):
        info = _entry(request)
        if kind_of(info).takes_memory:
            raise without_batch_api(info.name)


def _entry(request: FrameRequest) -> ModelInfo:
    """What is known of the model that is going to be asked. Raises ``ModelNotFoundError``."""
    model: Any = request.model
    manager = request.manager or default_manager()
    if model is None:
        try:
            return manager.get_model().info
        except ModelNotFoundError:
            return manager.bundled_model()
    if isinstance(model, str | os.PathLike):
        return manager.find_model(str(model))
    info: ModelInfo = model.info
    return info


def _itself(answered: pd.DataFrame) -> pd.DataFrame:
    return answered


def _how(request: FrameRequest, rows: int) -> HowFar:
    if request.dry_run:
        return "dry"
    if request.cancel_batch:
        return "cancelled"
    # The vendor gets all rows at once.
    is_large = request.preview_above is not None and rows > request.preview_above
    return "large" if is_large and not request.batch_api else "whole"


async def _awaitable(model: ModelInterface) -> ModelInterface:
    return model


async def _loaded(request: FrameRequest) -> ModelInterface:
    model: Any = request.model
    if isinstance(model, ModelInterface):
        return model
    if model is not None and not isinstance(model, str | os.PathLike):
        found: ModelInterface = model.model
        return found
    manager = request.manager or default_manager()
    if model is None:
        try:
            return manager.get_model()
        except ModelNotFoundError:
            model = manager.bundled_model().name
    loaded, _ = await manager.load_model(model if isinstance(model, str) else Path(model))
    return loaded


def pandas_frame(given: Any) -> Any:
    """A DataFrame of pandas as it is, and one of Dask; one that is made of a Series, and of
    whatever has ``to_pandas``, such as tables of Polars and PyArrow.

    Raises ``InvalidOptionError`` for anything else, and says how a DataFrame is made of it.
    """
    import pandas as pd

    if isinstance(given, pd.DataFrame) or is_dask_frame(given):
        return given
    if isinstance(given, pd.Series):
        return given.to_frame("text" if given.name is None else given.name)
    kind, name = type(given).__name__, option_name("df")
    convert = getattr(given, "to_pandas", None)
    if not callable(convert) or isinstance(given, type):
        how = _HOW.get(kind, "pd.DataFrame({name})").format(name=name)
        problem = f"must be a DataFrame (it is of type {kind}); make one with {how}"
        raise InvalidOptionError("df", problem)
    try:
        made = convert()
    except Exception as error:  # of another package: that of Polars needs PyArrow
        problem = f"cannot be made a DataFrame of pandas: {capped(str(error))}"
        raise InvalidOptionError("df", problem) from error
    if not isinstance(made, pd.DataFrame | pd.Series):
        made_of = type(made).__name__
        problem = f"must be a DataFrame ({kind}.to_pandas() makes an object of type {made_of})"
        raise InvalidOptionError("df", problem)
    return pandas_frame(made)
