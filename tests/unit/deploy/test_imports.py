"""What a process of the deployment loads before it does anything: each has two cores to share with all others."""

from __future__ import annotations

import subprocess
import sys


def test_only_a_process_that_holds_a_model_loads_what_models_take() -> None:
    heavy = ("xgboost", "sklearn", "numba", "optuna", "apprise", "scipy.special", "scipy.sparse", "scipy.optimize")
    code = f"import serve_app, sys; print(*(name for name in {heavy} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
