"""A backup made under load, everything wiped, and the backup put back: nothing that was acknowledged before it is lost, nothing is applied
twice, and no service remembers what its publisher does not."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

from tests.chaos import checks
from tests.chaos.harness import Chaos
from tests.chaos.load import DOOR, Floor, Pbx, until
from tests.chaos.synthetic import Say
from tests.system import SERVICES

LAST_BACKUP = "answerline_backup_last_success_timestamp_seconds"


def test_what_was_acknowledged_before_a_backup_survives_everything(either: Chaos, seed: int, tmp_path: Path, say: Say) -> None:
    system = either
    archive = tmp_path / "centre.tar"
    with Pbx([system], seed, pace=0.0).working() as pbx, Floor([system], seed, callers=2, agents=2).open().working() as floor:
        until(pbx, lambda: pbx.posts >= 20)
        acknowledged = set(pbx.acknowledged)
        system.answerline("backup", str(archive), *(() if system.deployed else ("--with-keys",)))
        meanwhile = len(pbx.acknowledged) - len(acknowledged)
        if system.deployed:  # what comes now waits for routing in the broker: it is of a time that the archive knows nothing of
            system.kill("routing")
            enough = pbx.posts + 5
            until(pbx, lambda: pbx.posts >= enough)
        for crew in (pbx, floor):
            crew.giving_up.set()
    for service in system.apart:
        system.kill(service)
    contents = manifest(archive)
    wipe(system)
    system.answerline("restore", "--yes", str(archive))

    for stem, told in contents.items():
        service, _, table = stem.partition("/")
        if table != "database":
            noted = 1 if stem == "gateway/audit" else 0  # that it was restored
            assert system.count(service, f'"{table}"') == int(told["rows"]) + noted, stem
    again = tmp_path / "again.tar"
    system.answerline("backup", str(again))
    same = {stem: told for stem, told in manifest(again).items() if stem not in ("gateway/audit", "gateway/database")}
    assert same == {stem: told for stem, told in contents.items() if stem in same}
    published = set().union(*(system.ids(service, "outbox") for service in SERVICES))
    for service in SERVICES:
        assert system.ids(service, "inbox") <= published, f"{service} knows events that nobody has published"

    for service in system.apart:
        system.start(service)
    for lines in batches(acknowledged):
        assert system.post(DOOR, "\n".join(lines), source=pbx.source).ok()["accepted"] == 0, "it was acknowledged before the backup"
    for lines in batches(pbx.lines):  # the PBX tells all of it once more
        system.post(DOOR, "\n".join(lines), source=pbx.source).ok()
    checks.settled(system)
    figures = checks.nothing_lost_or_twice(system)
    pbx.check_reports(system)
    assert system.metrics("gateway")[LAST_BACKUP] > 0
    say(
        {
            "lines before": len(acknowledged),
            "told while it was made": meanwhile,
            "rows": sum(one["rows"] for one in contents.values()),
            **figures,
        }
    )


def batches(lines: set[str]) -> list[list[str]]:
    ordered = sorted(lines)
    return [ordered[start : start + 500] for start in range(0, len(ordered), 500)]


def manifest(archive: Path) -> dict[str, dict[str, int | str]]:
    with tarfile.open(archive) as tar:
        file = tar.extractfile("manifest.json")
        assert file
        contents: dict[str, dict[str, int | str]] = json.load(file)["contents"]
    return contents


def wipe(system: Chaos) -> None:
    """All data gone, keys too. The broker's stay: they must not come back either."""
    if not system.deployed:
        shutil.rmtree(system.folder / "data")
        return
    assert system.database
    for service in SERVICES:
        system.database.create(f"{system.name}_{service}")
