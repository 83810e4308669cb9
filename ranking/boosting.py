"""XGBoost for those who only predict: without scikit-learn, which it would load for classes that nobody here uses."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

UNUSED = "sklearn"


def xgboost() -> ModuleType:
    """Return XGBoost; where this process has not loaded scikit-learn yet, it is loaded without it.

    scikit-learn and what it brings along are three quarters of what `import xgboost` takes, in each replica and each trial process.
    XGBoost supports to be without. None in `sys.modules` is Python's own way to say that there is no such module, only for as long as
    this takes: what wants scikit-learn later gets it.
    """
    alone = UNUSED not in sys.modules and "xgboost" not in sys.modules
    if alone:
        sys.modules[UNUSED] = None  # type: ignore[assignment]
    try:
        return import_module("xgboost")
    finally:
        if alone:
            del sys.modules[UNUSED]
