"""Backup and restore of one service's database of either kind: what comes back, and what is refused."""

from __future__ import annotations

import io
import itertools
import os
import re
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, inspect, text

import services.im
import services.routing
from shared import backup as archives
from shared.config import SettingError, Settings
from shared.db import engine, lease, migrate
from shared.db.engine import Database
from shared.db.lease import Lease
from shared.runtime.runner import migrate_all, restore_under_way
from tests.system import eventually
from tests.unit.conftest import MakeUrl

IM = [services.im.definition]
SEALING = "s" * 43
TRICKY = ("", "tab\tline\nreturn\rback\\slash \\N \\. '\" 中文 \x7f", None)


@dataclass
class Place:
    settings: Settings

    def open(self) -> Database:
        return Database(self.settings.database_of("im"))

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        with closing(self.open()) as database, database.reading() as connection:
            tables = [table for table in inspect(connection).get_table_names() if table != "alembic_version"]
            return {table: sorted(map(repr, connection.execute(text(f'select * from "{table}"')))) for table in tables}  # type: ignore[type-var]

    def run(self, *statements: str, **values: Any) -> None:
        with closing(self.open()) as database, database.transaction() as connection:
            for statement in statements:
                connection.execute(text(statement), values)

    def backup(self) -> bytes:
        out = io.BytesIO()
        archives.backup(self.settings, IM, out, lambda _: None)
        return out.getvalue()

    def restore(self, archive: bytes, **more: Any) -> archives.Summary:
        return archives.restore(self.settings, IM, io.BytesIO(archive), lambda _: None, **more)


@pytest.fixture
def make_place(make_url: MakeUrl, tmp_path: Path) -> Callable[[str], Place]:
    def make(name: str, upgraded: bool = True) -> Place:
        settings = Settings(database_url=make_url(name), data=tmp_path / name, secret_key=SEALING)
        with closing(Database(settings.database_url)) as database:
            if upgraded:
                migrate.upgrade(database, IM[0].migrations)
            elif database.sqlite:
                (tmp_path / name).mkdir()
        return Place(settings)

    return make


@pytest.fixture
def place(make_place: Callable[[str], Place]) -> Place:
    made = make_place("from")
    for number, words in enumerate(TRICKY):
        made.run(
            "insert into set_aside (id, type, subject, body, state, attempts, next_try_at, cause, at)"
            " values (:id, 't', 's', :words, 'dead', 1, :at, coalesce(:words, '-'), 0.1)",
            id=f"{number}", words=words or "", at=1e300 / 3,
        )  # fmt: skip
        made.run(
            "insert into outbox (id, type, subject, body, written_at, published_at) values (:id, 't', 's', :body, 1, :at)",
            id=f"00000000-0000-0000-0000-00000000000{number}", body=orjson.dumps({"text": words}).decode(), at=None if number else 0.1 + 0.2,
        )  # fmt: skip
    return made


def test_everything_comes_back_as_it_was(place: Place, make_place: Callable[..., Place]) -> None:
    before, archive = place.content(), place.backup()
    empty = make_place("to", upgraded=False)
    summary = empty.restore(archive)
    assert empty.content() == before
    assert before["outbox"]
    assert summary.rows == sum(map(len, before.values())) == archives.check(io.BytesIO(archive)).rows


def test_what_is_there_now_gives_way_and_numbers_go_on(place: Place) -> None:
    before, archive = place.content(), place.backup()
    place.run("delete from set_aside", "update outbox set subject = 'later'", "create table of_a_newer_revision (n integer)")
    place.run("update alembic_version set version_num = 'im_9999'")
    place.restore(archive)
    assert place.content() == before
    with closing(place.open()) as database:
        assert migrate.standing(database, IM[0].migrations) == "current"
    one_more = "insert into outbox (id, type, subject, body, written_at) values ('00000000-0000-0000-0000-000000000009', 't', 's', '{}', 1)"
    place.run(one_more)
    assert len(place.content()["outbox"]) == len(before["outbox"]) + 1


def test_each_byte_counts(place: Place) -> None:
    """Whatever is changed or cut off: it is told, and nothing is restored."""
    archive = place.backup()
    place.run("update outbox set subject = 'now'")
    before = place.content()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    spoilt = [archive[:-12000], b"", b"no archive", archive[:700]]
    for number, (member, data) in enumerate(members):
        if member.name == "manifest.json":
            spoilt.append(_packed(members[:number]))
        elif member.size > 150:
            spoilt.append(_packed([*members[:number], (member, data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]), *members[number + 1 :]]))
            spoilt.append(_packed([*members[:number], *members[number + 1 :]]))
    assert len(spoilt) > 6
    for one in spoilt:
        with pytest.raises((archives.Damaged, archives.Unsuitable)):
            archives.check(io.BytesIO(one))
        with pytest.raises((archives.Damaged, archives.Unsuitable)):
            place.restore(one)
    assert place.content() == before


def _packed(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for member, data in members:
            entry = tarfile.TarInfo(member.name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


class Slow(io.BytesIO):
    """An archive that comes in small pieces, and before the second of them, when all tables are empty, `wait` is called."""

    def __init__(self, archive: bytes, wait: Callable[[], Any]) -> None:
        super().__init__(archive)
        self.begun, self.wait = False, wait

    def begin(self, _said: str) -> None:
        self.begun = True

    def read(self, size: int | None = -1) -> bytes:
        if self.begun:
            self.begun = False
            self.wait()
        return super().read(min(size or 512, 512))


def test_who_waits_for_its_turn_is_not_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another service's tables take longer than anybody may stand still within a transaction elsewhere."""
    before = place.content()
    monkeypatch.setattr(engine, "ABANDONED", "set idle_in_transaction_session_timeout = '100ms'")
    monkeypatch.setattr(archives, "PART_BYTES", 1)
    waits = iter([0.3])
    out = io.BytesIO()
    archives.backup(place.settings, IM, out, lambda _: time.sleep(next(waits, 0)))
    place.run("delete from outbox")
    slow = Slow(out.getvalue(), lambda: time.sleep(0.3))
    archives.restore(place.settings, IM, slow, slow.begin)
    assert place.content() == before


def test_a_database_that_goes_away_is_not_called_a_damaged_archive(place: Place) -> None:
    archive, before = place.backup(), place.content()
    if "sqlite" in place.settings.database_url:
        return  # nobody can take a file away
    slow = Slow(archive, lambda: end_transactions(place.open()))
    with pytest.raises(archives.Unsuitable, match="the database went away"):
        archives.restore(place.settings, IM, slow, slow.begin)
    assert place.content() == before


def test_a_database_that_goes_away_between_two_is_told_with_what_to_do(
    place: Place, make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sqlite" in place.settings.database_url:
        return
    other = replace(IM[0], name="other")
    make_place("other")
    settings = replace(place.settings, database_url=place.settings.database_url.removesuffix("from") + "{service}")
    make_place("im")
    two, out = [*IM, other], io.BytesIO()
    archives.backup(settings, two, out, lambda _: None)
    monkeypatch.setattr(archives, "_forget_queues", lambda *_: end_transactions(Database(settings.database_of("other"))))
    with pytest.raises(archives.Unsuitable, match="im restored, other not; run restore again"):
        archives.restore(settings, two, io.BytesIO(out.getvalue()), lambda _: None)
    monkeypatch.setattr(archives, "_forget_queues", lambda *_: end_transactions(Database(settings.database_of("im"))))
    with pytest.raises(archives.Unsuitable, match="went away: "):
        archives.restore(settings, two, io.BytesIO(out.getvalue()), lambda _: None)
    monkeypatch.setattr(archives, "_forget_queues", lambda *_: None)
    archives.restore(settings, two, io.BytesIO(out.getvalue()), lambda _: None)


def end_transactions(of: Database) -> None:
    with closing(of) as database, database.transaction() as connection:
        connection.execute(
            text(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and state = 'idle in transaction' and pid <> pg_backend_pid()"
            )
        )


def test_a_running_service_is_not_restored_under_its_feet(place: Place) -> None:
    archive = place.backup()
    with closing(place.open()) as database:
        running = Lease(database, "im:active")
        assert running.acquire()
        with pytest.raises(archives.Unsuitable, match="im is running: stop all services first"):
            place.restore(archive)
        running.release()


def test_nobody_begins_to_work_while_a_restore_takes_its_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it stands still, its leases are its own: whoever is started meanwhile waits, and says for what."""
    before, archive = place.content(), place.backup()
    monkeypatch.setattr(lease, "FROZEN_SECONDS", 0.0)
    seen: list[Any] = []

    def look() -> None:
        with closing(place.open()) as database:
            seen.append((Lease(database, "im:active").acquire(), Lease(database, "im:active").acquire(), restore_under_way(database)))
            with pytest.raises(archives.Unsuitable, match="another restore is under way"):
                place.restore(archive)

    slow = Slow(archive, look)
    archives.restore(place.settings, IM, slow, slow.begin)
    assert seen == [(False, False, "a restore is under way: wait until it is done")]
    assert place.content() == before
    with closing(place.open()) as database:
        assert restore_under_way(database) == ""


@pytest.mark.parametrize("step", ["_forget_queues", "_bring_keys", "mark_whole"])
def test_one_that_was_killed_is_noticed_and_mended_by_another(place: Place, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Place(replace(place.settings, secret_key=""))
    own.settings.data.mkdir(exist_ok=True)
    key = own.settings.data / "secret.key"
    key.write_text(SEALING)
    before, out = own.content(), io.BytesIO()
    archives.backup(own.settings, IM, out, lambda _: None, with_keys=True)
    own.run("update outbox set subject = 'later'", "delete from set_aside")
    key.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(migrate if step == "mark_whole" else archives, step, lambda *_: os._exit(9))
        killed(lambda: own.restore(out.getvalue()))
    with closing(own.open()) as database:
        told = "a restore was cut off, and left this by half: run `answerline restore` again"
        eventually(lambda: restore_under_way(database) == told)  # the server may learn a moment later that it is gone
        waiting = Lease(database, "im:active")
        eventually(waiting.acquire)
        assert not migrate.take(waiting), "who stood by all the while goes on to do so"
        eventually(lambda: not waiting.is_taken())
        with pytest.raises(SettingError, match="run `answerline restore` again"):
            migrate_all(own.settings, IM)
    with pytest.raises(archives.Unsuitable, match="restored by half"):
        own.backup()
    own.restore(out.getvalue())
    assert (own.content(), key.read_text()) == (before, SEALING)
    with closing(own.open()) as database:
        assert restore_under_way(database) == ""


def test_one_that_was_killed_between_two_databases_is_too(
    place: Place, make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(IM[0], name="other")
    settings = replace(place.settings, database_url=place.settings.database_url.replace("from", "{service}"))
    two, out, names = [*IM, other], io.BytesIO(), ("im", "other")
    for name in names:
        make_place(name)
    centre = {name: Place(replace(settings, database_url=settings.database_of(name))) for name in names}
    for one in centre.values():
        one.run("insert into tally (bucket, events) values ('applied', 7)")
    before = {name: one.content() for name, one in centre.items()}
    archives.backup(settings, two, out, lambda _: None)
    for one in centre.values():
        one.run("update tally set events = 9")
    with monkeypatch.context() as patch:
        kill_at_second(patch, Connection, "commit") if "postgresql" in settings.database_url else kill_at_second(patch, Path, "replace")
        killed(lambda: archives.restore(settings, two, io.BytesIO(out.getvalue()), lambda _: None))
    found = [name for name, one in centre.items() if one.content().items() >= before[name].items()]  # beside them is the mark
    assert found == ["im"], "one is as it was, the other is not yet"
    for one in centre.values():
        with closing(one.open()) as database:
            eventually(lambda one=database: "run `answerline restore` again" in restore_under_way(one))
    archives.restore(settings, two, io.BytesIO(out.getvalue()), lambda _: None)
    assert {name: one.content() for name, one in centre.items()} == before


def kill_at_second(patch: pytest.MonkeyPatch, kind: type, name: str) -> None:
    """The process dies at the second of these calls that restore itself makes."""
    original, calls = getattr(kind, name), itertools.count(1)

    def call(self: Any, *args: Any) -> Any:
        if inspect_stack(2).endswith("backup.py") and next(calls) == 2:
            os._exit(9)
        return original(self, *args)

    patch.setattr(kind, name, call)


def inspect_stack(depth: int) -> str:
    return sys._getframe(depth).f_code.co_filename


def killed(run: Callable[[], Any]) -> None:
    """In a process that comes to a sudden end."""
    child = os.fork()
    if not child:
        try:
            run()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_secrets_sealed_with_a_key_that_is_not_here_are_noticed(place: Place) -> None:
    archive = place.backup()
    assert SEALING.encode() not in archive
    before = place.content()
    other = Place(replace(place.settings, secret_key="o" * 43))
    with pytest.raises(archives.Unsuitable, match="ANSWERLINE_SECRET_KEY"):
        other.restore(archive)
    Place(replace(place.settings, secret_key=f"{'o' * 43} {SEALING}")).restore(archive)
    other.restore(archive, another_key=True)
    assert place.content() == before


def test_keys_in_the_archive_are_brought_when_all_else_is(place: Place, make_place: Callable[..., Place]) -> None:
    """And not before: an archive that is refused leaves a centre without data as it was."""
    own = Place(replace(place.settings, secret_key=""))
    own.settings.data.mkdir(exist_ok=True)
    (own.settings.data / "secret.key").write_text(SEALING)
    out = io.BytesIO()
    archives.backup(own.settings, IM, out, lambda _: None, with_keys=True)
    empty = make_place("to", upgraded=False)
    empty = Place(replace(empty.settings, secret_key=""))
    with pytest.raises(archives.Damaged):
        empty.restore(out.getvalue()[:-12000])
    assert not (empty.settings.data / "secret.key").exists()
    empty.restore(out.getvalue())
    assert (empty.settings.data / "secret.key").read_text() == SEALING
    assert empty.content() == own.content()


def test_an_archive_of_the_other_kind_or_of_a_newer_answerline_is_refused(place: Place, tmp_path: Path) -> None:
    archive = place.backup()
    kind = "postgresql" if "sqlite" in place.settings.database_url else "sqlite"
    elsewhere = {"sqlite": f"sqlite:///{tmp_path}/x.sqlite3", "postgresql": "postgresql://nobody@127.0.0.1:1/x"}[kind]
    with pytest.raises(archives.Unsuitable, match=f"the databases here are {kind}"):
        Place(replace(place.settings, database_url=elsewhere)).restore(archive)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    newer = [(member, re.sub(rb"im_\d{4}", b"im_9999", data)) for member, data in members]
    assert newer != members
    with pytest.raises(archives.Unsuitable, match="newer Answerline"):
        place.restore(_packed(newer))


def test_older_tables_are_brought_up_to_date(make_url: MakeUrl, tmp_path: Path) -> None:
    routing = services.routing.definition
    settings = Settings(database_url=make_url("older"), data=tmp_path, secret_key=SEALING)
    with closing(Database(settings.database_url)) as database:
        migrate.upgrade(database, routing.migrations, "routing_0007")
        with database.transaction() as connection:
            connection.execute(text("insert into pool (name, shard) values ('night', 3)"))
        out = io.BytesIO()
        archives.backup(settings, [routing], out, lambda _: None)
        with database.transaction() as connection:
            connection.execute(text("delete from pool"))
    archives.restore(settings, [routing], io.BytesIO(out.getvalue()), lambda _: None)
    with closing(Database(settings.database_url)) as database, database.reading() as connection:
        assert connection.execute(text("select name, shard from pool")).all() == [("night", 3)]
        assert migrate.is_current(database, routing.migrations)
