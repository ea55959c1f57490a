"""Dask DataFrames as tables of a run: the columns of the prompts come here, the answers go back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from nbllm.core.errors import BatchError

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client

    from nbllm.notebook.batch.frame_batch import FrameBatch

__all__ = ["DaskTable", "is_dask_frame"]


def is_dask_frame(value: object) -> bool:
    """Whether it is a Dask DataFrame; Dask is not imported to find out."""
    module = sys.modules.get("dask.dataframe")
    return module is not None and isinstance(value, module.DataFrame)


@dataclass(frozen=True, slots=True)
class DaskTable:
    """A Dask DataFrame, and of it in ``frame`` the columns that the prompts name.

    ``lengths`` are those of its partitions. ``client`` is that of the cluster that answers, None
    where there is no cluster.
    """

    whole: dd.DataFrame
    frame: pd.DataFrame
    lengths: tuple[int, ...]
    client: Client | None

    @classmethod
    def of(
        cls,
        whole: dd.DataFrame,
        batch: FrameBatch,
        client: Client | None,
    ) -> DaskTable:
        """Compute the columns of the ``batch``'s template, on the cluster where there is one."""
        import dask
        import pandas as pd

        named = [name for name in whole.columns if str(name) in batch.template.columns]
        used = client or _default_client()
        delayed = whole[named].to_delayed()
        parts = used.gather(used.compute(delayed)) if used else list(dask.compute(*delayed))
        return cls(whole, pd.concat(parts), tuple(map(len, parts)), used)

    def joined(self, answered: pd.DataFrame) -> dd.DataFrame:
        """The whole frame with the new columns of ``answered``, in its partitions."""
        import dask.dataframe as dd

        new = answered.iloc[:, len(self.frame.columns) :].reset_index(drop=True)
        ends = [0, *accumulate(self.lengths)]
        parts = [new.iloc[start:end] for start, end in pairwise(ends)]
        meta = _with_answers(self.whole._meta, new.iloc[:0])  # noqa: SLF001 - as above
        answers = dd.from_map(_itself, parts, meta=new.iloc[:0])
        return self.whole.map_partitions(_with_answers, answers, meta=meta, align_dataframes=False)


def _itself(part: pd.DataFrame) -> pd.DataFrame:
    return part


def _with_answers(part: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    if len(part) != len(answers):
        raise BatchError(
            f"a partition has {len(part):,} rows now and had {len(answers):,} when they were "
            "asked; call persist() on the DataFrame before"
        )
    return part.assign(**{str(name): answers[name].array for name in answers.columns})


def _default_client() -> Client | None:
    try:
        from distributed import default_client

        client: Client = default_client()
    except (ImportError, ValueError):  # none was made
        return None
    return client
