"""`fork(arguments, …)` starts an `answerline …` in a tenth of the time: a process that has everything imported forks when asked.

That process, `python -m tests.zygote`, is started by the first fork, and ends with pytest, however that ends; so do all that it forked.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.stack import process
from tests.stack.process import alive

REPOSITORY = Path(__file__).parents[1]


class Forked:
    """As much of subprocess.Popen as a System needs. The zygote waits for it and notes its exit code in a file."""

    def __init__(self, pid: int, exit: Path) -> None:
        self.pid, self._exit = pid, exit

    def poll(self) -> int | None:
        if alive(self.pid):
            return None
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._exit.read_text())
        return None

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if alive(self.pid):
            os.kill(self.pid, number)

    def wait(self, timeout: float = 10.0) -> int:
        deadline, pause = time.monotonic() + timeout, 0.002
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("answerline", timeout)
            time.sleep(pause)
            pause = min(pause * 1.2, 0.05)
        return code


def fork(arguments: list[str], environment: Mapping[str, str], log: Path, folder: Path, errors: Path | None = None) -> Forked:
    """`answerline` with these arguments and this environment alone, in this folder; its output is appended to the log."""
    zygote = _zygote()
    order = {"arguments": arguments, "environment": dict(environment), "log": str(log), "errors": str(errors or log), "folder": str(folder)}
    assert zygote.stdin
    assert zygote.stdout
    zygote.stdin.write(json.dumps(order) + "\n")
    zygote.stdin.flush()
    pid = int(zygote.stdout.readline())
    return Forked(pid, _folder() / f"exit.{pid}")


@functools.cache
def _folder() -> Path:
    return process.folder("zygote")


@functools.cache
def _zygote() -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSWERLINE_")}
    with (_folder() / "log").open("ab") as log:
        zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env=kept | {"PYTHONPATH": str(REPOSITORY)}, cwd=_folder(), start_new_session=True,
        )  # fmt: skip

    @atexit.register
    def end() -> None:
        assert zygote.stdin
        zygote.stdin.close()
        zygote.wait(10)

    return zygote


# ---- inside the zygote

living: set[int] = set()
WAITPID = os.waitpid  # before eventlet makes a patient one of it


def main() -> None:
    from shared import cli
    from shared.runtime import patch

    patch.apply()
    from shared.observability import logging  # noqa: F401 - what the commands import when called
    from shared.runtime import runner, web  # noqa: F401
    from shared.runtime.definition import installed

    for definition in installed().values():
        definition.load()
    gc.collect()
    gc.freeze()  # what is there now is looked through, and so copied, by no process that is forked
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin:  # ends with whoever ordered them
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(order, cli)
        living.add(pid)
        print(pid, flush=True)
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def _reap(*_: object) -> None:
    """Note how they ended: exit.<pid> in the working directory."""
    with contextlib.suppress(ChildProcessError):
        while (ended := WAITPID(-1, os.WNOHANG))[0]:
            living.discard(ended[0])
            Path(f"exit.{ended[0]}").write_text(str(os.waitstatus_to_exitcode(ended[1])))


def _become(order: dict, cli: object) -> None:
    from eventlet import hubs

    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log, errors = (os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("log", "errors"))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(errors, 2)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        hubs.use_hub()  # a poll object of its own, not the parent's
        cli.main(order["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - said in the log; the exit code tells
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
