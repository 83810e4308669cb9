"""One model serves at a time; another takes over only through the gates, and the one before can always come back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ranking import bundle as bundles
from ranking.bundle import BundleError
from ranking.gates import Verdict
from ranking.registry import POINTER, Registry, RegistryError
from tests.unit.ranking.models import write_bundle

PASSED = [Verdict("schema", True, "same"), Verdict("drift", True, "PSI 0.01", 0.01, 0.2)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return [write_bundle(folder / str(seed), seed) for seed in range(3)]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    # A trial process per step would take seconds; that `verify` finds what is wrong is tested with bundles.
    monkeypatch.setattr(bundles, "verify", lambda folder: bundles.load(folder, verified=True))
    return Registry(tmp_path / "models")


def filled(registry: Registry, models: list[Path]) -> list[str]:
    ids = [registry.add(model) for model in models]
    registry.install(ids[0], 1.0)
    return ids


def test_a_promoted_model_serves_and_a_rollback_brings_back_the_one_before_step_by_step(registry: Registry, models: list[Path]) -> None:
    first, second, third = filled(registry, models)
    registry.promote(second, PASSED, 2.0)
    registry.promote(third, PASSED, 3.0)
    assert (registry.standing().serving, registry.standing().previous) == (third, (second, first))
    assert registry.rollback(4.0).serving == second
    assert registry.rollback(5.0).serving == first
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback(6.0)
    assert registry.standing().serving == first


def test_a_gate_that_failed_is_named_with_its_figure_and_nothing_changes(registry: Registry, models: list[Path]) -> None:
    first, second, _ = filled(registry, models)
    refused = [PASSED[0], Verdict("drift", False, "PSI 0.710, 0.510 above the 0.2 allowed", 0.71, 0.2)]
    before = registry.standing()
    with pytest.raises(
        RegistryError, match=rf"{second} is not promoted, {first} goes on serving. drift: PSI 0.710, 0.510 above"
    ) as refusal:
        registry.promote(second, refused, 2.0)
    assert "schema" not in str(refusal.value)
    with pytest.raises(RegistryError, match="no gate was tried"):
        registry.promote(second, [], 2.0)
    assert registry.standing() == before


def test_a_damaged_bundle_is_neither_taken_in_nor_rolled_back_to(registry: Registry, models: list[Path], tmp_path: Path) -> None:
    first, second, _ = filled(registry, models)
    registry.promote(second, PASSED, 2.0)
    (registry.folder_of(first) / bundles.CALIBRATION).unlink()
    with pytest.raises(BundleError, match=r"calibration\.json: is missing"):
        registry.rollback(3.0)
    assert registry.standing().serving == second
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"manifest\.json"):
        registry.add(tmp_path / "empty")


def test_adding_a_model_twice_changes_nothing(registry: Registry, models: list[Path]) -> None:
    assert registry.add(models[0]) == registry.add(models[0])
    assert [entry.model_id for entry in registry.entries()] == [registry.add(models[0])]


def test_a_challenger_leaves_the_shadow_when_it_is_promoted(registry: Registry, models: list[Path]) -> None:
    first, second, third = filled(registry, models)
    registry.challenge(second, 2.0)
    assert {entry.model_id: entry.role for entry in registry.entries()} == {first: "serving", second: "challenger", third: ""}
    registry.promote(second, PASSED, 3.0)
    assert registry.standing().challenger == ""
    with pytest.raises(RegistryError, match="serves already"):
        registry.challenge(second, 4.0)
    assert {entry.model_id: entry.role for entry in registry.entries()} == {first: "previous", second: "serving", third: ""}


def test_a_challenger_leaves_the_shadow_when_a_rollback_brings_it_back(registry: Registry, models: list[Path]) -> None:
    first, second, third = filled(registry, models)
    registry.promote(second, PASSED, 2.0)
    registry.challenge(first, 3.0)
    assert registry.rollback(4.0).challenger == ""
    assert registry.promote(third, PASSED, 5.0).challenger == "", "nor does it begin again on its own"


def test_a_model_is_named_by_how_its_id_begins_if_that_is_one_model_alone(registry: Registry, models: list[Path]) -> None:
    ids = filled(registry, models)
    assert [registry.named(name[:12]) for name in ids] == ids
    for text in ("", "zz"):
        with pytest.raises(RegistryError, match=r"is no model .*`tidings models add FOLDER` brings one in"):
            registry.named(text)


def test_a_reader_sees_the_old_pointer_or_the_new_one_never_half(registry: Registry, models: list[Path]) -> None:
    ids = filled(registry, models)
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(registry.standing().serving)

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(60):
        registry.install(ids[step % 3], float(step))
    done.set()
    reader.join()
    assert seen <= set(ids)
    assert len(registry.standing().previous) == 20


def test_a_pointer_that_cannot_be_read_is_an_error_not_an_empty_registry(registry: Registry, models: list[Path]) -> None:
    filled(registry, models)
    (registry.folder / POINTER).write_text('{"serving": ')
    with pytest.raises(RegistryError, match=r"serving\.json"):
        registry.standing()
