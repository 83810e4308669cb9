"""The models of a deployment as a folder: a bundle each, and a pointer file that says which one serves and which one challenges it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lake.aside import written_aside
from lake.errors import InputError
from ranking import bundle as bundles
from ranking.gates import Verdict

POINTER, LOCK, BUNDLES = "serving.json", ".lock", "bundles"
MOST_PREVIOUS = 20
"""How many models back a rollback can go."""


class RegistryError(InputError):
    """What was asked of the registry cannot be done; the message says why, and what to do."""


@dataclass(frozen=True)
class Standing:
    """Which models do what, by id, "" for none. `previous`: what served before, latest first. `at`: of the last change, seconds."""

    serving: str = ""
    challenger: str = ""
    previous: tuple[str, ...] = ()
    at: float = 0.0

    def served_by(self, model_id: str, at: float) -> Standing:
        """Return how things stand once another model serves."""
        before = (self.serving, *self.previous) if self.serving else ()
        challenger = "" if self.challenger == model_id else self.challenger
        return Standing(model_id, challenger, before[:MOST_PREVIOUS], at)


@dataclass(frozen=True)
class Entry:
    """A model of the registry. `role`: serving, challenger, previous or ""; `until`: what it was trained on ended then."""

    model_id: str
    role: str
    created_at: float
    until: float
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Registry:
    """A folder of bundles. Every change of who serves is one atomic replacement of the pointer; changes exclude one another."""

    folder: Path

    @staticmethod
    def is_at(folder: Path) -> bool:
        """Return whether a folder is a registry, rather than a bundle."""
        return (folder / POINTER).is_file()

    @staticmethod
    def served(model: Path) -> Path:
        """Return the folder of the bundle that serves where `model` is a registry or a bundle; raises RegistryError."""
        registry = Registry(model)
        return registry.folder_of(registry.standing().serving) if Registry.is_at(model) else model

    def standing(self) -> Standing:
        """Return which model serves; raises RegistryError where the pointer is damaged."""
        path = self.folder / POINTER
        try:
            content = json.loads(path.read_text())
            return Standing(**content | {"previous": tuple(content["previous"])})
        except FileNotFoundError:
            return Standing()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"{path}: does not say which model serves ({error}); mend or delete it, then `tidings up --model` names one"
            ) from None

    def folder_of(self, model_id: str) -> Path:
        """Return the bundle of a model."""
        return self.folder / BUNDLES / model_id

    def named(self, text: str) -> str:
        """Return the id that a person means by it or by its beginning; raises RegistryError where that is none or not one alone."""
        found = [name for name in self._ids() if name.startswith(text)] if text else []
        if len(found) != 1:
            known = ", ".join(self._ids()) or "none yet"
            names = f"is the beginning of {len(found)} models" if found else "is no model"
            raise RegistryError(f"{text!r} {names} of {self.folder}; it holds {known}; `tidings models add FOLDER` brings one in")
        return found[0]

    def entries(self) -> list[Entry]:
        """Return the models, latest first; a folder that is no bundle is left out."""
        standing, found = self.standing(), []
        for model_id in self._ids():
            try:
                about = bundles.about(self.folder_of(model_id))
            except bundles.BundleError:
                continue
            found.append(Entry(model_id, _role(standing, model_id), about.created_at, about.window.until, about.metrics))
        return sorted(found, key=lambda entry: -entry.created_at)

    def add(self, bundle: Path) -> str:
        """Verify a bundle and keep a copy of it; returns its id. Raises BundleError. One that is here already stays as it is."""
        bundles.verify(bundle)
        model_id = bundles.about(bundle).model_id
        wanted = self.folder_of(model_id)
        if not wanted.exists():
            with written_aside(wanted) as new:
                shutil.copytree(bundle, new, dirs_exist_ok=True)
        return model_id

    def challenge(self, model_id: str, now: float) -> Standing:
        """Let a model be scored in the shadow of the one that serves, "" for none; raises RegistryError."""
        with self._changing() as standing:
            if model_id and not standing.serving:
                raise RegistryError(f"no model of {self.folder} serves yet, so none can challenge it; start with `tidings up --model`")
            if model_id and model_id == standing.serving:
                raise RegistryError(f"{model_id} serves already; it cannot challenge itself")
            return self._write(replace(standing, challenger=model_id, at=now))

    def promote(self, model_id: str, verdicts: Sequence[Verdict], now: float) -> Standing:
        """Let a model serve if every gate passed it; raises RegistryError that names the gates that did not, and by how much."""
        failed = [verdict for verdict in verdicts if not verdict.passed]
        if failed or not verdicts:
            reasons = "; ".join(f"{verdict.gate}: {verdict.why}" for verdict in failed) or "no gate was tried"
            raise RegistryError(f"{model_id} is not promoted, {self.standing().serving or 'nothing'} goes on serving. {reasons}")
        return self.install(model_id, now)

    def install(self, model_id: str, now: float) -> Standing:
        """Let a model serve without gates, as for the first one; raises BundleError where its bundle is not sound."""
        bundles.verify(self.folder_of(model_id))
        with self._changing() as standing:
            return standing if standing.serving == model_id else self._write(standing.served_by(model_id, now))

    def rollback(self, now: float) -> Standing:
        """Let the model serve that served before; raises RegistryError where there is none, BundleError where it is damaged."""
        with self._changing() as standing:
            if not standing.previous:
                raise RegistryError(f"no model served before {standing.serving or 'any'} in {self.folder}: there is nothing to go back to")
            bundles.verify(self.folder_of(standing.previous[0]))
            model_id, *earlier = standing.previous
            challenger = "" if standing.challenger == model_id else standing.challenger
            return self._write(Standing(model_id, challenger, tuple(earlier), now))

    def _ids(self) -> list[str]:
        folder = self.folder / BUNDLES
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []

    @contextmanager
    def _changing(self) -> Iterator[Standing]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.standing()

    def _write(self, standing: Standing) -> Standing:
        aside = self.folder / f".{POINTER}.part"
        with aside.open("w") as file:
            file.write(json.dumps(asdict(standing), indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.folder / POINTER)
        return standing


def _role(standing: Standing, model_id: str) -> str:
    if model_id == standing.serving:
        return "serving"
    if model_id == standing.challenger:
        return "challenger"
    return "previous" if model_id in standing.previous else ""
