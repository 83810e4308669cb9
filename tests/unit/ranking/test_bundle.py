"""A bundle serves only if it is exactly what was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ranking import bundle as bundles
from ranking.bundle import BundleError
from ranking.features import FEATURES
from tests.unit.ranking.models import booster, write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "model")


def rows(n: int = 20) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(n, len(FEATURES))).astype(np.float32)


def test_a_loaded_bundle_predicts_what_the_trained_model_did(folder: Path) -> None:
    bundle = bundles.load(folder)
    assert np.array_equal(bundle.margins(rows()), booster().inplace_predict(rows(), predict_type="margin"))
    assert bundle.window.until == 1.0
    assert bundle.metrics == {"ndcg_at_5": 0.5}
    assert len(bundle.model_id) == 16


@pytest.mark.parametrize("name", bundles.FILES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        bundles.verify(folder)


@pytest.mark.parametrize("name", [*bundles.FILES, bundles.MANIFEST])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: is missing"):
        bundles.verify(folder)


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="tidings train"):
        bundles.load(tmp_path / "none")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_id": 1, "created_at": 0, "window": {}, "sha256": {}}'])
def test_a_manifest_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / bundles.MANIFEST).write_text(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        bundles.verify(folder)


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and its hash, as somebody would who edits a bundle on purpose."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / bundles.MANIFEST).read_text())
    manifest["sha256"][name] = bundles._sha256(folder / name)
    (folder / bundles.MANIFEST).write_text(json.dumps(manifest))


def test_columns_in_another_order_are_refused_even_with_a_fitting_hash(folder: Path) -> None:
    schema = json.loads((folder / bundles.SCHEMA).read_text())
    schema["features"][0], schema["features"][1] = schema["features"][1], schema["features"][0]
    rewrite(folder, bundles.SCHEMA, json.dumps(schema).encode())
    with pytest.raises(BundleError, match="feature 0 is 'user_engaged_14d'"):
        bundles.verify(folder)


def test_a_model_that_crashes_or_fails_to_load_does_so_in_a_child_process(folder: Path) -> None:
    content = (folder / bundles.MODEL).read_bytes()
    rewrite(folder, bundles.MODEL, content[: len(content) // 2])
    with pytest.raises(BundleError, match="a trial process could not predict"):
        bundles.verify(folder)


@pytest.mark.parametrize("wrong", [rows().astype(np.float64), rows()[:, :-1].copy(), np.asfortranarray(rows()), rows()[0]])
def test_rows_of_another_shape_or_type_are_refused(folder: Path, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="C-contiguous float32"):
        bundles.load(folder, verified=True).margins(wrong)


def test_a_bundle_replaces_a_bundle_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    first = bundles.load(folder, verified=True).model_id
    write_bundle(folder, seed=1)
    assert bundles.load(folder, verified=True).model_id != first
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(BundleError, match="is no model folder"):
        write_bundle(tmp_path / "photos")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "photos"]


def test_channels_that_the_model_does_not_know_have_no_code(folder: Path) -> None:
    assert bundles.load(folder, verified=True).channel_codes(("email", "pigeon")).tolist() == [1, 255]
