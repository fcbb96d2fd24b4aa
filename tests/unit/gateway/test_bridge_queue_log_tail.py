"""Lines are given once, in their order, whatever rotation and restarts do; in doubt twice, never not at all."""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.gateway.bridges import bridge
from services.gateway.bridges.queue_log_tail import Mark, Tail, carry
from tests.unit.gateway.asterisk_peers import Kept
from tests.unit.gateway.telephony_samples import DATA

LINES = (DATA / "queue_log").read_bytes().splitlines(keepends=True)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder / "queue_log"


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(lines))


def given(tail: Tail) -> list[bytes]:
    lines: list[bytes] = []
    while some := tail.more():
        lines += some.splitlines(keepends=True)
    return lines


def again(tail: Tail) -> Tail:
    """The process has ended and started anew; what it remembers went through its file."""
    tail.close()
    return Tail(tail.path, Mark.of(json.loads(json.dumps(asdict(tail.mark)))), tail.since)


def test_lines_are_given_as_they_come_and_only_when_whole(log: Path) -> None:
    tail = Tail(log)
    assert given(tail) == [], "it may not be there yet"
    append(log, LINES[0], LINES[1][:20])
    assert given(tail) == [LINES[0]]
    append(log, LINES[1][20:])
    assert given(tail) == [LINES[1]]
    assert given(tail) == []


def test_after_a_restart_it_goes_on_where_it_was(log: Path) -> None:
    append(log, *LINES[:10])
    tail = Tail(log)
    assert given(tail) == LINES[:10]
    append(log, *LINES[10:20])
    assert given(again(tail)) == LINES[10:20]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_renamed_log_is_read_to_its_end(log: Path, restarted: bool) -> None:
    append(log, *LINES[:10])
    tail = Tail(log)
    given(tail)
    append(log, *LINES[10:15])
    rotated = log.with_name("queue_log.1")
    log.rename(rotated)
    tail = again(tail) if restarted else tail
    assert given(tail) == LINES[10:15]
    append(rotated, *LINES[15:18])  # until its logger is told, Asterisk writes on into the renamed file
    assert given(tail) == LINES[15:18]
    append(log, *LINES[18:30])
    assert given(tail) == LINES[18:30]


def test_rotated_several_times_while_away_and_compressed_nothing_is_missing(log: Path) -> None:
    append(log, *LINES[:10])
    tail = Tail(log)
    given(tail)
    append(log, *LINES[10:15])
    log.with_name("queue_log.2.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    log.with_name("queue_log.1").write_bytes(b"".join(LINES[15:40]))
    append(log, *LINES[40:50])
    assert given(again(tail)) == LINES[10:50]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_log_that_was_copied_and_cut_off_is_read_on_in_the_copy(log: Path, restarted: bool) -> None:
    append(log, *LINES[:10])
    tail = Tail(log)
    given(tail)
    append(log, *LINES[10:15])
    log.with_name("queue_log.1").write_bytes(log.read_bytes())
    os.truncate(log, 0)
    append(log, *LINES[15:60])  # longer than what was read: its size alone would betray nothing
    assert given(again(tail) if restarted else tail) == LINES[10:60]


def test_a_log_cut_off_without_a_copy_is_read_from_its_beginning(log: Path) -> None:
    append(log, *LINES[:10])
    tail = Tail(log)
    given(tail)
    os.truncate(log, 0)
    assert given(tail) == []
    append(log, *LINES[15:17])
    assert given(tail) == LINES[15:17]


def test_the_last_line_of_a_finished_file_may_lack_its_end(log: Path) -> None:
    append(log, *LINES[:3], LINES[3].rstrip())
    tail = Tail(log)
    assert given(tail) == LINES[:3]
    log.rename(log.with_name("queue_log.1"))
    append(log, LINES[4])
    assert given(tail) == LINES[3:5]


def test_since_passes_over_what_is_older_and_reaches_into_rotated_files(log: Path) -> None:
    old, older = log.with_name("queue_log.1"), log.with_name("queue_log.2")
    append(older, *LINES[:20])
    append(old, *LINES[20:100])
    append(log, *LINES[100:200])
    since = int(LINES[60].split(b"|")[0])
    os.utime(older, (since - 100, since - 100))
    wanted = [line for line in LINES[:200] if int(line.split(b"|")[0]) >= since]
    assert given(Tail(log, since=since)) == wanted


def test_files_that_only_look_alike_are_left_alone(log: Path) -> None:
    log.with_name("queue_log.conf").write_bytes(b"; nothing of ours\n")
    log.with_name("queue_log.1.gz").write_bytes(b"this is no gzip")
    append(log, *LINES[:5])
    tail = Tail(log)
    assert given(tail) == LINES[:5]
    log.rename(log.with_name("queue_log.2"))
    append(log, *LINES[5:9])
    assert given(again(tail)) == LINES[5:9]


def test_what_finds_no_room_comes_again(log: Path, tmp_path: Path) -> None:
    append(log, *LINES[:10])
    tail, kept, state = Tail(log), Kept(), tmp_path / "state"
    kept.room = False
    assert carry(tail, kept, state) is False
    assert not state.exists()
    kept.room = True
    assert carry(tail, kept, state) is True
    append(log, *LINES[10:20])
    log.rename(log.with_name("queue_log.1"))
    append(log, *LINES[20:30])
    kept.room = False
    assert carry(tail, kept, state) is False
    kept.room = True
    assert carry(tail, kept, state) is True
    assert kept.body == b"".join(LINES[:30])


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_in_whatever_order_no_line_is_missing(log: Path, seed: int) -> None:
    chance = random.Random(seed)
    rest, tail, got, rotated, restarts = b"".join(LINES[10:]), Tail(log), [], 0, 0
    append(log, *LINES[:10])
    got += given(tail)
    while rest:
        match chance.randrange(8):
            case 0 | 1 | 2:
                cut = chance.randrange(1, 3000)
                append(log, rest[:cut])
                rest = rest[cut:]
            case 3 | 4:
                got += given(tail)
            case 5:
                tail, restarts = again(tail), restarts + 1
            case 6 | 7 if log.exists() and log.stat().st_size:
                rotated += 1
                line_end = 0 if log.read_bytes().endswith(b"\n") else rest.index(b"\n") + 1
                append(log, rest[:line_end])  # Asterisk writes whole lines
                rest = rest[line_end:]
                old = log.with_name(f"queue_log.{rotated}")
                if chance.random() < 0.5:
                    log.rename(old)
                else:
                    old.write_bytes(log.read_bytes())
                    os.truncate(log, 0)
                if chance.random() < 0.3:
                    old.with_name(old.name + ".gz").write_bytes(gzip.compress(old.read_bytes()))
                    old.unlink()
    got += given(tail)
    assert list(dict.fromkeys(got)) == LINES
    if not restarts:
        assert got == LINES


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    run = CliRunner(env={"ANSWERLINE_KEY": "", "ANSWERLINE_AMI_SECRET": "", "ANSWERLINE_ARI_SECRET": ""}).invoke
    spool = ["--spool", str(tmp_path / "spool")]
    assert "ANSWERLINE_KEY" in run(bridge, ["queue-log-tail", str(tmp_path / "queue_log"), *spool]).output
    key = tmp_path / "key"
    key.write_text("k\n")
    assert "ANSWERLINE_AMI_SECRET_FILE" in run(bridge, ["asterisk-ami", "--key-file", str(key), *spool]).output
    assert "ANSWERLINE_ARI_SECRET_FILE" in run(bridge, ["asterisk-ari", "--key-file", str(key), *spool]).output
    assert "epoch seconds" in run(bridge, ["queue-log-tail", "--since", "soon", "--key-file", str(key), *spool]).output
