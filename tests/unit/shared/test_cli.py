from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from shared.cli import main

LOOK = """
import sys
from shared import cli
for name in ("up", "service"):
    assert cli.main.get_command(None, name)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"sqlalchemy", "kombu", "marshmallow", "requests", "numpy"}))
"""


def test_nothing_that_makes_locks_is_imported_before_everything_is_patched() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_services_add_is_found_beside_what_is_there() -> None:
    told = CliRunner().invoke(main, ["--help"]).output
    assert all(f"\n  {name} " in told for name in ("bench", "bridge", "dlq", "doctor", "key", "migrate", "person", "service", "up"))
    assert "\n  ingest " in CliRunner().invoke(main, ["bench", "--help"]).output
    assert CliRunner().invoke(main, ["key", "create", "--help"]).exit_code == 0
    assert "No such command 'simulat'" in CliRunner().invoke(main, ["simulat"]).output
