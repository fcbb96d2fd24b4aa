"""A real Chromium and a real server for the pages."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import available_timezones

import pytest

from tests import zygote

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-browser-tests"
START_SECONDS = 60
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


def _unavailable(reason: str) -> None:
    """Loud where somebody works by hand, a failure where the whole truth is asked for."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"the browser tests cannot run: {reason}", pytrace=False)
    pytest.skip(f"THE PAGES WERE NOT TESTED IN A BROWSER: {reason}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is, installed now if need be and possible."""
    if found := shutil.which("chromium"):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        patience = ("-o", "DPkg::Lock::Timeout=120")
        quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", *patience, "update"], check=False, **quietly)
        subprocess.run(["apt-get", *patience, "install", "-y", "--no-install-recommends", "chromium"], check=False, **quietly)
    found = shutil.which("chromium")
    if not found:
        _unavailable("there is no chromium (apt-get install chromium), and it could not be installed here")
    assert found
    return found


@pytest.fixture(scope="module")
def playwright():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _unavailable("the Python package playwright is not installed (pip install playwright; no `playwright install` needed)")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium, playwright):
    running = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
    yield running
    running.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """Opens a page with a fresh profile; what the console complains of is kept in `page.complaints`."""
    contexts = []

    def open_page(address: str, locale: str = "en-US"):
        context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


class Server:
    """`answerline up` on a free port, with data of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: zygote.Forked | None = None

    def start(self, *options: str, **settings: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSWERLINE_")}
        environment |= {
            "ANSWERLINE_DATA": str(self.folder), "ANSWERLINE_HTTP": f"127.0.0.1:{self.port}", "ANSWERLINE_ADMIN_KEY": KEY,
            "ANSWERLINE_TIMEZONE": _zone_where_it_is_noon(), **settings,
        }  # fmt: skip
        log = self.folder.with_suffix(".log")
        self.process = zygote.fork(["up", *options], environment | {"PYTHONPATH": str(ROOT)}, log, self.folder)
        give_up_at = time.monotonic() + START_SECONDS
        while not self._lives():
            assert self.process.poll() is None and time.monotonic() < give_up_at, log.read_text()[-4000:]
            time.sleep(0.1)

    def _lives(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/livez", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, body, headers, method=method), timeout=10) as answer:
            return answer.read()


def _zone_where_it_is_noon() -> str:
    """The wallboard counts from midnight: a run that begins just before it would lose its first calls."""
    zone = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    return zone if zone in available_timezones() else "UTC"


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    server = Server(tmp_path / "answerline")
    server.folder.mkdir()
    yield server
    server.stop()
