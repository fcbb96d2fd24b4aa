from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("words", ["key list", "key reseal", "key create x --role agent", "dlq list", "dlq retry --service im", "doctor"])
def test_who_looks_in_the_wrong_place_is_told_and_leaves_nothing_there(words: str, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    told = CliRunner().invoke(main, words.split(), env={"ANSWERLINE_DATA": str(place)})
    assert (told.exit_code, place.exists()) == (1, False)
    assert f"Error: ANSWERLINE_DATA: no centre has its data in {place}" in told.output
