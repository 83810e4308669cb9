"""Further columns come as senders like: one that holds a text here and a number there becomes text, so that tables can hold it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa


def uniform(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of which Arrow can hold every column: one that mixes kinds of values comes as JSON texts.

    A row that could not be written would keep all others from being written too.
    """
    objects = [name for name, kind in frame.dtypes.items() if isinstance(kind, np.dtype) and kind.kind == "O"]
    mixed = [str(name) for name in objects if not _is_uniform(frame[name])]
    texts = {name: [None if _is_missing(value) else orjson.dumps(value).decode() for value in frame[name]] for name in mixed}
    return frame.assign(**{name: pd.Series(values, frame.index, "string") for name, values in texts.items()}) if mixed else frame


def _is_uniform(column: pd.Series[Any]) -> bool:
    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
