"""A trained model as a folder: model, feature schema, calibration, metrics, and a manifest that says what each file must be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lake.aside import written_aside
from lake.errors import InputError
from lake.meta import CHANNELS
from ranking.blocks import Matrix
from ranking.boosting import xgboost
from ranking.calibration import Calibration
from ranking.features import FEATURES, NO_CHANNEL, VERSION, order_of
from ranking.forest import forest
from ranking.opt_out import OptOut
from ranking.popularity import Worth
from ranking.reference import Reference
from ranking.value import ValueRule

if TYPE_CHECKING:  # imported where it is used: with what it brings along it is half of what a process loads, and most hold no model
    import xgboost as xgb

MODEL, SCHEMA, CALIBRATION, METRICS, MANIFEST = "model.ubj", "features.json", "calibration.json", "metrics.json", "manifest.json"
FILES = (MODEL, SCHEMA, CALIBRATION, METRICS)
OPT_OUT = "opt_out.json"
LIGHT = "light.ubj"
NORMAL = "normal.json"
POPULAR = "popularity.json"
OPTIONAL = (OPT_OUT, LIGHT, NORMAL, POPULAR)
"""What is known of the risk of opting out, the light model, what rows and scores are normally like, and what popularity is worth where
no model serves; a bundle may lack them."""
TRIAL_ROWS = 16
TRIAL_TIMEOUT_S = 60.0
REMEDY = "train it again, or take the folder from where it was made"

_tried: set[frozenset[tuple[str, str]]] = set()
"""The files, by name and SHA-256, of the bundles that a trial process of this one's has predicted with."""


class BundleError(InputError):
    """A model folder that must not serve; the message names the file and what to do."""


@dataclass(frozen=True)
class Window:
    """What a model was trained on: rows from `since` to `until`, seconds; nothing at or after `until` was used."""

    since: float
    until: float


@dataclass(frozen=True)
class Bundle:
    """A model that is ready to predict. `channels`: the names whose codes the feature `channel` holds. `light`: see ranking.light.

    `normal`: what its rows and scores are like when all is well, for ranking.guard. `popular`: what popularity is worth. `rule`: what
    outcomes are worth to the deployment that it ranks for; not of the model, and in no file.
    """

    model_id: str
    booster: xgb.Booster
    calibration: Calibration
    channels: tuple[str, ...]
    window: Window
    metrics: dict[str, Any]
    created_at: float
    opt_out: OptOut = OptOut()
    light: xgb.Booster | None = None
    normal: Reference | None = None
    popular: Worth | None = None
    rule: ValueRule = ValueRule()

    def margins(self, rows: Matrix) -> Matrix:
        """Return the raw margins of feature rows, float32 (n,); raises ValueError where rows are no feature rows."""
        return forest(self.booster).margins(rows)

    def foretold(self, rows: Matrix) -> Matrix:
        """Return what the light model, or without one the heavy, says the margins of feature rows will be, float32 (n,)."""
        return forest(self.light or self.booster).margins(rows)

    def probabilities(self, rows: Matrix) -> Matrix:
        """Return the calibrated probability of engagement of feature rows, float32 (n,)."""
        return self.calibration(self.margins(rows))

    def channel_codes(self, names: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return this model's codes of channel names, 255 for one it does not know."""
        return np.array([self.channels.index(name) if name in self.channels else NO_CHANNEL for name in names], np.uint8)


def write(
    folder: Path,
    booster: xgb.Booster,
    calibration: Calibration,
    metrics: dict[str, Any],
    window: Window,
    created_at: float,
    channels: tuple[str, ...] = CHANNELS,
    opt_out: OptOut | None = None,
    light: xgb.Booster | None = None,
    normal: Reference | None = None,
    popular: Worth | None = None,
) -> str:
    """Write a bundle aside and rename it to `folder`, replacing a bundle that is there; returns the model id.

    Raises BundleError where the folder holds anything but a bundle.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).exists())):
        raise BundleError(f"{folder}: is there already and is no model folder; name a new one")
    with written_aside(folder) as new:
        return _fill(new, booster, calibration, metrics, window, created_at, channels, opt_out, light, normal, popular)


def _fill(
    folder: Path,
    booster: xgb.Booster,
    calibration: Calibration,
    metrics: dict[str, Any],
    window: Window,
    created_at: float,
    channels: tuple[str, ...],
    opt_out: OptOut | None,
    light: xgb.Booster | None,
    normal: Reference | None,
    popular: Worth | None,
) -> str:
    booster.save_model(folder / MODEL)
    for name, content in (
        (SCHEMA, {"version": VERSION, "features": list(FEATURES), "channels": list(channels)}),
        (CALIBRATION, calibration.as_json()),
        (METRICS, metrics),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    if opt_out is not None:
        (folder / OPT_OUT).write_text(json.dumps(opt_out.as_json()) + "\n")
    if light is not None:
        light.save_model(folder / LIGHT)
    if normal is not None:
        (folder / NORMAL).write_text(json.dumps(normal.as_json()) + "\n")
    if popular is not None:
        (folder / POPULAR).write_text(json.dumps(popular.as_json()) + "\n")
    hashes = {name: _sha256(folder / name) for name in (*FILES, *OPTIONAL) if (folder / name).exists()}
    scoring = [name for name in hashes if name not in (METRICS, NORMAL, POPULAR)]
    model_id = hashlib.sha256("".join(hashes[name] for name in scoring).encode()).hexdigest()[:16]
    manifest = {"model_id": model_id, "tidings": version("tidings"), "created_at": created_at, "window": asdict(window), "sha256": hashes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return model_id


@dataclass(frozen=True)
class About:
    """What a bundle says of itself, without loading its model. `schema`: version, features and channels."""

    model_id: str
    created_at: float
    window: Window
    metrics: dict[str, Any]
    schema: dict[str, Any]


def about(folder: Path) -> About:
    """Return what a bundle says of itself; raises BundleError where it is none. Nothing is verified."""
    manifest = _manifest(folder)
    window = Window(**manifest["window"])
    return About(manifest["model_id"], manifest["created_at"], window, _json(folder / METRICS), _json(folder / SCHEMA))


def verify(folder: Path) -> None:
    """Check a bundle's hashes and schema, then load it and predict in a child process; raises BundleError.

    A flipped bit in a model file can crash XGBoost, so what is not known to be sound is loaded where a crash does no harm. What this
    process has had tried before, to the byte, is not tried again.
    """
    manifest = _manifest(folder)
    for name, wanted in manifest["sha256"].items():
        if not (folder / name).is_file():
            raise BundleError(f"{folder / name}: is missing; {REMEDY}")
        if _sha256(folder / name) != wanted:
            raise BundleError(f"{folder / name}: is not the file that was written (its SHA-256 differs); {REMEDY}")
    _schema(folder)
    content = frozenset(manifest["sha256"].items())
    if content not in _tried:
        _try(folder)
        _tried.add(content)


def _try(folder: Path) -> None:
    command = [sys.executable, "-m", "ranking.bundle", str(folder)]
    try:
        trial = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        slow = f"did not load within {TRIAL_TIMEOUT_S:.0f} s in a trial process"
        raise BundleError(f"{folder / MODEL}: {slow}; where this machine was busy, try again, else {REMEDY}") from None
    if trial.returncode:
        last = (trial.stderr.strip().splitlines() or [f"exit {trial.returncode}"])[-1]
        raise BundleError(f"{folder / MODEL}: a trial process could not predict with it ({last}); {REMEDY}")


def load(folder: Path, *, threads: int = 1, verified: bool = False) -> Bundle:
    """Return a bundle that passed `verify` (which is skipped where the caller has `verified` it already); raises BundleError.

    `threads`: CPUs that one prediction may use, 0: all. Small batches gain nothing from several, and lose where cores are shared.
    """
    if not verified:
        verify(folder)
    manifest, schema = _manifest(folder), _schema(folder)
    return Bundle(
        model_id=manifest["model_id"],
        booster=_booster(folder / MODEL, threads),
        calibration=_curve(folder / CALIBRATION),
        channels=tuple(schema["channels"]),
        window=Window(**manifest["window"]),
        metrics=_json(folder / METRICS),
        created_at=manifest["created_at"],
        opt_out=_opt_out(folder, threads) if OPT_OUT in manifest["sha256"] else OptOut(),
        light=_booster(folder / LIGHT, threads) if LIGHT in manifest["sha256"] else None,
        normal=_normal(folder) if NORMAL in manifest["sha256"] else None,
        popular=_worth(folder / POPULAR) if POPULAR in manifest["sha256"] else None,
    )


def _booster(path: Path, threads: int) -> xgb.Booster:
    booster: xgb.Booster = xgboost().Booster(params={"nthread": threads} if threads else None, model_file=str(path))
    try:
        order_of(booster.feature_names or [])
    except ValueError as error:
        raise BundleError(f"{path}: {error}; it was trained with other features: {REMEDY}") from None
    return booster


def _schema(folder: Path) -> dict[str, Any]:
    schema = _json(folder / SCHEMA)
    try:
        order_of(schema["features"])
    except (ValueError, KeyError) as error:
        raise BundleError(f"{folder / SCHEMA}: {error}; this Tidings computes other features: train the model again") from None
    if schema.get("version") != VERSION:
        raise BundleError(f"{folder / SCHEMA}: version {schema.get('version')} where this Tidings has {VERSION}; train the model again")
    return schema


def popular(folder: Path) -> Worth | None:
    """Return what a bundle says popularity is worth, None: nothing, without loading its model; raises BundleError where it is damaged."""
    wanted = _manifest(folder)["sha256"].get(POPULAR)
    if wanted is not None and _sha256(folder / POPULAR) != wanted:
        raise BundleError(f"{folder / POPULAR}: is not the file that was written (its SHA-256 differs); {REMEDY}")
    return None if wanted is None else _worth(folder / POPULAR)


def _worth(path: Path) -> Worth:
    try:
        return Worth.from_json(_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: {error}; {REMEDY}") from None


def _curve(path: Path) -> Calibration:
    try:
        return Calibration.from_json(_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: {error}; {REMEDY}") from None


def _opt_out(folder: Path, threads: int) -> OptOut:
    try:
        return OptOut.from_json(_json(folder / OPT_OUT), threads)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / OPT_OUT}: {error}; {REMEDY}") from None


def _normal(folder: Path) -> Reference:
    try:
        return Reference.from_json(_json(folder / NORMAL))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / NORMAL}: {error}; {REMEDY}") from None


def _manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BundleError(f"{folder}: there is no such model folder; `tidings train` writes one")
    manifest = _json(folder / MANIFEST)
    lacking = {"model_id", "created_at", "window", "sha256"} - manifest.keys()
    if lacking or set(manifest["sha256"]) - set(OPTIONAL) != set(FILES):
        raise BundleError(f"{folder / MANIFEST}: is not a manifest of a model; {REMEDY}")
    return manifest


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise BundleError(f"{path}: is missing; {REMEDY}") from None
    except (ValueError, OSError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); {REMEDY}") from None
    if not isinstance(content, dict):
        raise BundleError(f"{path}: is not a JSON object; {REMEDY}")
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _trial(folder: Path) -> None:
    """Predict some rows, of plain and of extreme values; raises where a probability is not finite."""
    bundle = load(folder, verified=True)
    rows = np.random.default_rng(0).normal(0, 100, (TRIAL_ROWS, len(FEATURES))).astype(np.float32)
    rows[0], rows[1], rows[2] = np.nan, 0, 1e30
    told = (bundle.probabilities(rows), bundle.opt_out.risks(rows), bundle.foretold(rows))
    if not all(np.isfinite(numbers).all() for numbers in told):
        raise BundleError(f"{folder / MODEL}: gives probabilities that are not finite")


if __name__ == "__main__":
    _trial(Path(sys.argv[1]))
