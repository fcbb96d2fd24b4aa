"""python -m tests.stack up        both servers until Ctrl-C; prints their addresses as shell exports
python -m tests.stack install   only installs what is missing (what `up` does anyway); `install watching`: Prometheus too,
                                `install clocks`: libfaketime too
python -m tests.stack hold …    what the pytest plugin starts: waits until a test wants the stack, ends with its pytest"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from . import bring_up, install, process


def up() -> int:
    process.say("bringing up RabbitMQ and PostgreSQL")
    stack = bring_up()
    process.say(str(stack))
    if stack.missing:
        process.say(stack.missing)
    for name, part in (("BROKER", stack.broker), ("DATABASE", stack.database)):
        if part:
            print(f"export ANSWERLINE_TEST_{name}_URL={shlex.quote(part.url)}", flush=True)
    process.say("Ctrl-C ends it")
    signal.pause()
    return 0


def hold(place: Path, parent: int) -> int:
    """Wait for the file `wanted`, bring the stack up, write `stack.json`; end when told to or when the parent is gone."""

    def wait(until: Path | None = None) -> None:
        while not (until and until.exists()):
            if os.getppid() != parent:
                sys.exit(0)
            time.sleep(0.05 if until else 0.2)

    wait(place / "wanted")
    try:
        known = bring_up(durable=False).as_json()
    except Exception as error:  # noqa: BLE001 - told to the test that asked
        known = {"error": str(error)}
    (place / "stack.json.new").write_text(json.dumps(known))
    (place / "stack.json.new").rename(place / "stack.json")
    wait()
    return 0


def main(args: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        match args:
            case ["up"]:
                return up()
            case ["install", *more] if {*more} <= {"watching", "clocks"}:
                refused = install(watching="watching" in more, clocks="clocks" in more)
                if refused:
                    process.say(refused)
                return 1 if refused else 0
            case ["hold", place, parent]:
                return hold(Path(place), int(parent))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
