"""Requests generated from the OpenAPI document, against the whole system: no 5xx, and no answer that the document does not tell of.

All checks of schemathesis, with a fixed seed; tests/fuzz/schemathesis.toml says what is left out and why. `make fuzz` tries many times more.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import REPOSITORY, System, running
from tests.thorough import TIMES, USUAL

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
OPEN = " ".join(
    f"{who}=off" for who in ("key", "address", "password", "wrong_key", "role:admin", "tag:telephony", "tag:pages", "tag:operation")
)
SECONDS = 150 if USUAL else 3600
MODES = ("embedded",) if USUAL else ("embedded", "deployed")
"""A few examples of each door find what is wrong with the document; `make fuzz` asks for all that is at its limits too, in both modes."""


@pytest.fixture(scope="module", params=MODES)
def fuzzed(request: pytest.FixtureRequest) -> Iterator[System]:
    """A system of its own, for nobody else may be fuzzed; without rate limits, which have their own tests."""
    with running(request.param, request, ANSWERLINE_RATE_LIMITS=OPEN) as system:
        yield system
        system.stop()


def schemathesis(system: System, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("st", path=str(Path(sys.executable).parent)) or "st", "--config-file", str(CONFIGURATION), "run"]
    return subprocess.run(
        [*command, f"http://127.0.0.1:{system.ports['http']}/openapi.json", "--no-color", *options], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"ANSWERLINE_KEY": system.key or "", "PYTHONPATH": str(REPOSITORY)}, timeout=SECONDS * 3, check=False,
    )  # fmt: skip


def found(done: subprocess.CompletedProcess[str]) -> str:
    """What was found, without the greeting and the progress."""
    return done.stdout.partition("= FAILURES =")[2][:8000] or done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.timeout(SECONDS * 3)
def test_no_request_made_from_the_document_finds_a_5xx_or_an_undocumented_answer(fuzzed: System, tmp_path: Path) -> None:
    phases = "examples,fuzzing" if USUAL else "examples,coverage,fuzzing,stateful"
    report = tmp_path / "report.json"
    done = schemathesis(
        fuzzed,
        tmp_path,
        "--phases",
        phases,
        "--max-examples",
        str(3 if USUAL else 100 * TIMES),
        "--report",
        "json",
        "--report-json-path",
        str(report),
    )
    assert done.returncode == 0, found(done)
    assert json.loads(report.read_text()), "something was tried"
    assert fuzzed.get("/livez").status == 200


def test_an_undocumented_answer_would_be_found(fuzzed: System, tmp_path: Path) -> None:
    """The same, asked for a document that promises another answer than the system gives."""
    document = fuzzed.get("/openapi.json").ok()
    document["paths"] = {"/v1/me": document["paths"]["/v1/me"]}
    document["paths"]["/v1/me"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {
        "type": "object",
        "required": ["no_such"],
    }
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    done = subprocess.run(
        [shutil.which("st", path=str(Path(sys.executable).parent)) or "st", "--config-file", str(CONFIGURATION), "run", "wrong.json", "--no-color",
         "--url", f"http://127.0.0.1:{fuzzed.ports['http']}", "--phases", "examples,fuzzing", "--max-examples", "2"], cwd=tmp_path, text=True,
        capture_output=True, env=os.environ | {"ANSWERLINE_KEY": fuzzed.key or "", "PYTHONPATH": str(REPOSITORY)}, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "violates schema" in done.stdout
