"""Reads orders, one JSON line each, and forks an `answerline …` for each, so that only this process pays for the imports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

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
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(order, cli)
        living.add(pid)
        print(pid, flush=True)
    for pid in living:  # whoever ordered them is gone
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
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(order["environment"])
        hubs.use_hub()  # a poll object of its own, not the parent's
        cli.main(order["arguments"], standalone_mode=False)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
        raise
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
