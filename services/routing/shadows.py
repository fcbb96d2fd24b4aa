"""The shadows' comparisons: one at a time, each by a process of its own, so that nobody waits for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import IO, Any

import structlog

from services.routing import shadow_store
from shared import clock
from shared.bus.outbox import UnitOfWork

log = structlog.get_logger()

LONGEST_SECONDS = 1800.0
DATABASE, ZONE = "ANSWERLINE_SHADOW_DATABASE", "ANSWERLINE_SHADOW_ZONE"


class Shadows:
    def __init__(self, units: UnitOfWork, database: str, zone: str) -> None:
        self.units, self.database, self.zone = units, database, zone
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._row: dict[str, Any] = {}
        self._began = 0.0
        self._rests_until = 0.0  # monotonic

    def step(self) -> None:
        """Look after the comparison that is on, or begin the next; returns at once. Between two it rests at least as long as the last one
        took: however many contacts a day has, shadows have half a core at most, at low priority."""
        if self._process is None:
            if clock.monotonic() >= self._rests_until:
                self._rests_until = clock.monotonic() + 1.0
                self._begin()
            return
        if self._process.poll() is None:
            if clock.monotonic() - self._began > LONGEST_SECONDS:
                self._process.kill()
            return
        self._end()

    def _begin(self) -> None:
        now = clock.now()
        with self.units.database.reading() as connection:
            row = shadow_store.due(connection, now)
        if row is None:
            return
        since = max(row["since"], now - shadow_store.WINDOW_SECONDS)
        self._row, self._began = row, clock.monotonic()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 it is read when the process has ended
        command = [sys.executable, "-m", "services.routing.simulation.shadow", row["name"], str(since), str(now)]
        with tempfile.TemporaryFile() as document:
            document.write(row["document"].encode())
            document.seek(0)
            environment = {**os.environ, DATABASE: self.database, ZONE: self.zone, "OMP_NUM_THREADS": "1"}
            try:
                self._process = subprocess.Popen(command, stdin=document, stdout=self._output, stderr=subprocess.DEVNULL, env=environment)
            except OSError as error:  # no memory or no process left: the next try is in some minutes
                self._output.close()
                self._note(None, str(error))

    def _end(self) -> None:
        assert self._process is not None and self._output is not None
        ended, output, took = self._process.returncode, self._output, clock.monotonic() - self._began
        self._process = self._output = None
        self._rests_until = clock.monotonic() + took
        output.seek(0)
        told = output.read()
        output.close()
        try:
            compared = json.loads(told) if ended == 0 else None
        except ValueError:
            compared = None
        self._note(compared, f"exit {ended}")

    def _note(self, compared: dict[str, Any] | None, why: str) -> None:
        if compared is None:
            compared = {"contacts": 0, "figures": {}, "problem": "the comparison failed; `answerline replay` says why"}
            log.error("shadow not compared", policy=self._row["name"], why=why)
        with self.units.database.transaction() as connection:
            shadow_store.note(connection, self._row, compared, clock.now())

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
