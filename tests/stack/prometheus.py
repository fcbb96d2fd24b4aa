"""A Prometheus of our own, of the installed binary, on a port and in a folder of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode
from urllib.request import urlopen

from . import process
from .process import LOCAL, StackError


def installed() -> bool:
    return bool(shutil.which("prometheus") and shutil.which("promtool"))


@dataclass
class Prometheus:
    """`with Prometheus(settings) as prometheus:` runs until the end of the block; `settings` is the text of its prometheus.yml."""

    settings: str
    port: int = field(default_factory=process.port)
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        home = process.folder("prometheus")
        (home / "prometheus.yml").write_text(self.settings)
        told = {"config.file": home / "prometheus.yml", "storage.tsdb.path": home / "data", "web.listen-address": f"{LOCAL}:{self.port}"}
        argv = [shutil.which("prometheus") or "prometheus", *(f"--{name}={value}" for name, value in told.items())]
        child = self._child = process.spawn(argv, env={"PATH": "/usr/bin"}, log=home / "log")
        ready = f"http://{LOCAL}:{self.port}/-/ready"
        process.until_ready(
            lambda: urlopen(ready, timeout=5).close(), lambda: child.poll() is None, "Prometheus", lambda: Path(home / "log").read_text()
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            process.end(self._child, signal.SIGTERM)

    def ask(self, path: str, **query: Any) -> Any:
        """The data of an answer of its API, such as `ask("query", query="up")["result"]`. Raises StackError where it refuses."""
        try:
            with urlopen(f"http://{LOCAL}:{self.port}/api/v1/{path}?{urlencode(query)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except OSError as error:
            why = error.read().decode() if hasattr(error, "read") else error
            raise StackError(f"Prometheus: {query}: {why}") from error

    def values(self, query: str) -> list[dict[str, Any]]:
        """What a query finds now: each line with its labels and its value."""
        found: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return found
