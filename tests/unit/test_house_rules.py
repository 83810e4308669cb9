"""Rules that ruff cannot state precisely: its per-file exceptions let a file off a whole rule, not one module."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("lake", "ranking", "budgets", "delivery", "scheduler", "gateway", "simulation", "tidings")
HOMES = {
    "ray": ("serve_app.py", "*/ray_*.py"),
    "redis": ("serve_app.py", "*/redis_*.py"),
    "xgboost": ("ranking/*.py",),
    "apscheduler": ("scheduler/*ticker.py",),
}
LONGEST_FUNCTION = 60
SOURCES = sorted([ROOT / "serve_app.py", *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))])


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_module_uses_only_the_engines_that_live_in_it(path: Path) -> None:
    strangers = {
        module
        for module in _imported(ast.parse(path.read_text()))
        if module in HOMES and not any(fnmatch(_name(path), home) for home in HOMES[module])
    }
    assert not strangers, f"{_name(path)} imports {strangers}: move that part to {[HOMES[module] for module in strangers]}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert not {name: lines for name, lines in long.items() if lines > LONGEST_FUNCTION}


def test_the_lock_holds_every_dependency_in_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    locked = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
    here = {canonicalize_name(each.name): str(each.specifier)[2:] for each in locked if each.marker is None or each.marker.evaluate()}
    for each in wanted:
        assert each.specifier.contains(here.get(canonicalize_name(each.name), "0")), f"{each}: run `make lock`"


def test_the_lock_names_no_registry_and_no_gpu_library() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert all("://" not in line and not line.startswith(("-", "nvidia")) for line in lines)
