"""``nbllm.map_frame``: a prompt for each row of a DataFrame, the answers as columns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllm.batches.batch_rows import BatchTick
from nbllm.core.errors import InvalidOptionError
from nbllm.core.model_interface import ModelInterface
from nbllm.core.schemas.answer_schemas import schema_or_decision
from nbllm.core.types import GenerationOptions
from nbllm.notebook.batch.clusters import cluster_model, told_of_workers
from nbllm.notebook.batch.dask_tables import DaskTable, is_dask_frame
from nbllm.notebook.batch.frame_batch import FrameBatch
from nbllm.notebook.batch.frame_run import SAMPLE_ROWS, FrameRun, HowFar
from nbllm.notebook.loop import run

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client

    from nbllm.core.model_manager import ModelManager
    from nbllm.notebook.loaded_model import LoadedModel

__all__ = ["PREVIEW_ABOVE", "frame_run", "map_frame"]

PREVIEW_ABOVE = 1_000
"""Runs over more rows show their first ones, and what the rest will take, unless told otherwise."""


def map_frame(
    df: pd.DataFrame | dd.DataFrame,
    template: str,
    *,
    model: str | ModelInterface | LoadedModel | None = None,
    schema: Any = None,
    decide: Mapping[str, Any] | None = None,
    calibrate: bool = False,
    into: str | None = None,
    system: str | None = None,
    details: bool = False,
    dry_run: bool = False,
    concurrency: int | None = None,
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = True,
    max_failures: float = 0.5,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    preview_above: int | None = PREVIEW_ABOVE,
    title: str = "",
    batch_api: bool = False,
    cancel_batch: bool = False,
    client: Client | None = None,
    manager: ModelManager | None = None,
    progress: BatchTick | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Ask a model about every row of ``df``, and return it with the answers as new columns.

    ``template`` is the prompt, with ``{column}`` where a row's value belongs; nothing in it is
    evaluated. Without a ``schema`` the answers are a column of texts called ``into`` ("answer");
    with one, a column for each property of the JSON schema, type or dataclass, with the dtype that
    it says, named ``into`` and the property where ``into`` is given. Index, order and columns of
    ``df`` stay. ``decide={"team": ["red", "blue"], "urgent": bool}`` has a column for each
    question with the most probable label, and one with its probability, which is missing where
    the model tells none; see ``ModelInterface.decide``. ``calibrate`` takes what the model prefers
    over all rows, whatever their text is, out of the probabilities; small models need it. A row
    that fails has missing values, and its reason in a column ``error``; ``details`` adds finish
    reasons, tokens and costs.

    ``dry_run`` asks the first 5 rows only, and tells ranges of the tokens, the time and the price
    that the others would take. A run over more than ``preview_above`` rows shows and tells the same
    of its first rows, and goes on; None never does. ``title`` names the run in the dashboard.
    ``model`` is a name, or a loaded model; without it the last one used, or the bundled one. The
    other parameters are those of ``ModelInterface.map``; ``options`` are generation options such
    as ``max_tokens``.

    ``batch_api`` sends the rows to the batch API of OpenAI, Anthropic or Gemini, which answers
    within a day for half the price. An interrupt, or a restart of the kernel, leaves the vendor
    working: the same call takes its batch up again, and with ``cancel_batch`` cancels it and
    returns what was done by then.

    With a ``client`` of Dask the workers of its cluster answer: each loads the model by its own
    machine's memory, finds it by its own files, and uses the keys of its own environment.
    ``concurrency`` is then that of all of them together. A lost worker's rows are asked on others,
    and those that join are asked too; a warning says which workers cannot load the model, and why.

    ``df`` may be a Dask DataFrame: the columns of the template are computed and brought here, the
    rows are asked by the cluster of ``client`` or of Dask's default one, by this machine where
    there is none, and the result is a Dask DataFrame with the same partitions.

    An interrupt ends the run with a ``KeyboardInterrupt`` whose ``frame`` has what is finished,
    a ``BatchError`` has it as ``finished``; a ``journal`` keeps it too. Works where nothing can be
    awaited. Raises ``InvalidOptionError``, ``BatchError``, and what loading raises.
    """
    whole = frame_run(
        df,
        template,
        model=model,
        schema=schema,
        decide=decide,
        calibrate=calibrate,
        into=into,
        system=system,
        details=details,
        dry_run=dry_run,
        concurrency=concurrency,
        journal=journal,
        retry_failed=retry_failed,
        max_failures=max_failures,
        max_cost=max_cost,
        max_total_tokens=max_total_tokens,
        preview_above=preview_above,
        title=title,
        batch_api=batch_api,
        cancel_batch=cancel_batch,
        client=client,
        manager=manager,
        **options,
    )
    with told_of_workers(whole.model):
        answered: pd.DataFrame = whole.run(progress)
    return answered


def frame_run(
    df: pd.DataFrame | dd.DataFrame,
    template: str,
    *,
    model: str | ModelInterface | LoadedModel | None = None,
    schema: Any = None,
    decide: Mapping[str, Any] | None = None,
    into: str | None = None,
    details: bool = False,
    dry_run: bool = False,
    calibrate: bool = False,
    journal: str | os.PathLike[str] | None = None,
    preview_above: int | None = PREVIEW_ABOVE,
    title: str = "",
    batch_api: bool = False,
    cancel_batch: bool = False,
    client: Client | None = None,
    manager: ModelManager | None = None,
    system: str | None = None,
    concurrency: int | None = None,
    retry_failed: bool = True,
    max_failures: float = 0.5,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    **options: Any,
) -> FrameRun:
    """What ``map_frame`` does, with its model loaded and nothing asked yet."""
    wanted, table = schema_or_decision(schema, decide), None
    batch_of = partial(FrameBatch.of, template=template, schema=wanted, into=into, details=details)
    if client is not None and (batch_api or cancel_batch):
        raise InvalidOptionError("client", "cannot be combined with batch_api; drop one")
    if is_dask_frame(df):
        table = DaskTable.of(df, batch_of, client)
        df, client = table.frame, None if batch_api or cancel_batch else table.client
    batch = batch_of(df)
    loaded = _loaded(model, manager) if client is None else cluster_model(client, model, manager)
    how = _how(df, dry_run=dry_run, cancel_batch=cancel_batch, preview_above=preview_above)
    if how == "large" and batch_api:
        how = "whole"  # the vendor gets all rows at once
    asked = loaded.map(
        batch.prompts(batch.rows[:SAMPLE_ROWS] if dry_run else batch.rows),
        system=system,
        schema=wanted,
        options=GenerationOptions.of(options),
        concurrency=concurrency,
        journal=None if dry_run and batch_api else journal,
        retry_failed=retry_failed,
        max_failures=max_failures,
        max_cost=max_cost,
        max_total_tokens=max_total_tokens,
        batch_api=(batch_api or cancel_batch) and not dry_run,
        first=SAMPLE_ROWS if how == "large" else 0,
        title=title or f"{len(df):,} rows",
    )
    return FrameRun(
        df,
        batch,
        asked,
        how,
        model=loaded,
        joined=table.joined if table is not None and not dry_run else lambda answered: answered,
        batch_api=batch_api,
        calibrate=calibrate,
    )


def _how(
    df: pd.DataFrame, *, dry_run: bool, cancel_batch: bool, preview_above: int | None
) -> HowFar:
    if dry_run:
        return "dry"
    if cancel_batch:
        return "cancelled"
    return "large" if preview_above is not None and len(df) > preview_above else "whole"


def _loaded(
    model: str | ModelInterface | LoadedModel | None, manager: ModelManager | None
) -> ModelInterface:
    from nbllm.core.errors import ModelNotFoundError
    from nbllm.core.model_manager import default_manager

    if isinstance(model, ModelInterface):
        return model
    if model is not None and not isinstance(model, str | Path):
        return model.model
    used = manager or default_manager()
    if model is None:
        try:
            return used.get_model()
        except ModelNotFoundError:
            model = used.bundled_model().name
    loaded, _ = run(used.load_model(model))
    return loaded
