"""What is given for a table, as a DataFrame of pandas."""

from __future__ import annotations

from typing import Any

from nbllm.core.errors import InvalidOptionError
from nbllm.core.option_names import option_name
from nbllm.core.texts import capped
from nbllm.notebook.batch.dask_tables import is_dask_frame

__all__ = ["pandas_frame"]

_HOW = {
    "ndarray": "pd.DataFrame({name}, columns=[…])",
    "str": "pd.read_csv({name}) if it is a file",
    "LazyFrame": "{name}.collect()",
    "NoneType": "pd.DataFrame(…)",
    "type": "pd.DataFrame(…)",
    "DataFrameGroupBy": "{name}.obj, or what it is aggregated to",
}


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
