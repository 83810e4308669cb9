"""The embedded server keeps what it freed, and the process that starts it is left as it was."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lake.embedded import ALLOCATOR, TUNED, EmbeddedStore


def asked_of_the_allocator(store: EmbeddedStore) -> set[str]:
    environment = Path(f"/proc/{store.pid}/environ").read_text().replace(f"{ALLOCATOR}=", "")
    return {entry for entry in re.split("[\0:]", environment) if entry.startswith("glibc.")}  # the loader splits it in place


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to look into another process")
@pytest.mark.parametrize("own", [None, "glibc.malloc.arena_max=1"])
def test_the_allocator_is_tuned_unless_whoever_starts_it_did(tmp_path: Path, own: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOCATOR, raising=False)
    if own:
        monkeypatch.setenv(ALLOCATOR, own)
    with EmbeddedStore(tmp_path) as store:
        assert asked_of_the_allocator(store) == set((own or TUNED).split(":"))
        assert os.environ.get(ALLOCATOR) == own
