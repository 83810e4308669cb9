"""A browser the size of a small phone, and a gateway for it to look at."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")  # while it lives it keeps an event loop running, and other files have loops of their own
def browser() -> Iterator[Browser]:
    """A browser of this machine: skips where there is none, unless TIDINGS_BROWSER (a path, or 1 for any) says that there must be."""
    wanted = os.environ.get("TIDINGS_BROWSER", "")
    found = wanted if Path(wanted).is_file() else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if wanted:
            pytest.fail(
                f"TIDINGS_BROWSER={wanted}, and there is none: install one of {', '.join(BROWSERS)}, such as `apt-get install chromium`"
            )
        pytest.skip(f"no browser on this machine: none of {', '.join(BROWSERS)}; TIDINGS_BROWSER=1 makes that a failure")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A page of 360 by 740, without scripts."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, device_scale_factor=2, has_touch=True, java_script_enabled=False)
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


class Served:
    """An application on a port of this machine, served by a thread of this process."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, app: object) -> None:
        """Serve from now on."""
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", loop="asyncio"))  # type: ignore[arg-type]
        server = self._server
        self._thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[self._socket])))
        self._thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "the gateway did not start within 20 s"
            self._thread.join(0.01)

    def stop(self) -> None:
        """Serve no longer."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(20)
        self._socket.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """A server; nothing is served yet."""
    server = Served()
    yield server
    server.stop()
