"""Server processes that cannot outlive us.

Everything this process starts is noted in one scratch folder (`root()`), in the file `running`. Who ends it:
- `atexit`, when we end in an orderly way;
- the guard, a tiny process of its own session that watches us, when we are killed with SIGKILL;
- the next `root()` anywhere on this machine, when the guard was killed too.
A process is known by pid *and* birth time, so a pid that was reused meanwhile is never hit.
Standard library only: the guard runs this file.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

PREFIX = "answerline-test-"
LOCAL = "127.0.0.1"

_root: Path | None = None
_root_owner = 0
_guardian: subprocess.Popen[bytes] | None = None
_ports: set[int] = set()


class StackError(RuntimeError):
    """A server did not start, or was asked for something it cannot do."""


def say(text: str) -> None:
    print(f"[test stack] {text}", file=sys.stderr, flush=True)


# --- the scratch folder ---------------------------------------------------------------------------------------------------------------


def root() -> Path:
    """The scratch folder of this process; made, guarded and swept of dead predecessors at first use."""
    global _root, _root_owner, _guardian
    if _root is None or _root_owner != os.getpid():
        _sweep()
        _root, _root_owner = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")), os.getpid()
        _root.chmod(0o711)  # PostgreSQL runs as another user and must be able to pass
        (_root / "owner").write_text(_identity(os.getpid()))
        atexit.register(_at_exit, _root, _root_owner)
        _guardian = subprocess.Popen(
            [sys.executable, "-S", __file__, str(_root), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip
    return _root


def folder(name: str) -> Path:
    """A new folder in the scratch folder."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root()))


def note(entry: str) -> None:
    """Remember a process (`pid birth`) or a container (`container NAME`) to be ended with us."""
    with (root() / "running").open("a") as file:
        file.write(entry + "\n")


def reap(scratch: Path) -> None:
    """End everything noted in this scratch folder, then delete the folder."""
    entries = (scratch / "running").read_text().split("\n") if (scratch / "running").exists() else []
    for entry in filter(None, entries):
        kind, _, name = entry.partition(" ")
        if kind == "container":
            subprocess.run(["docker", "rm", "-f", "-v", name], capture_output=True)
        elif _identity(int(kind)) == entry:
            kill_tree(int(kind))
            with contextlib.suppress(ChildProcessError):  # leave no zombie where it was our child
                os.waitpid(int(kind), os.WNOHANG)
    for _ in range(5):  # a dying server may still be writing
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            break
        time.sleep(0.1)


def _at_exit(scratch: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        reap(scratch)


def _sweep() -> None:
    for old in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with contextlib.suppress(OSError, ValueError):
            owner = (old / "owner").read_text()
            if old.stat().st_uid == os.getuid() and _identity(int(owner.split()[0])) != owner:
                reap(old)


def _guard(scratch: Path, parent: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == parent and scratch.exists():
        time.sleep(0.2)
    if scratch.exists():
        reap(scratch)


# --- processes ------------------------------------------------------------------------------------------------------------------------


def spawn(argv: Sequence[str], *, env: Mapping[str, str], log: Path, user: str | None = None) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own (Ctrl-C in the terminal does not reach it) and note it."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent,
            start_new_session=True, user=user, group=user and group(user), extra_groups=[] if user else None,
        )  # fmt: skip
    note(_identity(child.pid))
    return child


def kill_tree(pid: int) -> None:
    """SIGKILL to the process and all its descendants, found by parent pid (PostgreSQL's children leave the process group)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # so that it has no further children while we count them
    parents, family = dict(_parents()), [pid]
    for member in family:  # grows while we walk it
        family += [child for child, parent in parents.items() if parent == member]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(alive(member) for member in family) and time.monotonic() < deadline:
        time.sleep(0.01)


def end(child: subprocess.Popen[bytes], number: signal.Signals, timeout: float = 30) -> None:
    """Ask politely; after the timeout, SIGKILL."""
    if child.poll() is None:
        child.send_signal(number)
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_tree(child.pid)
    child.wait()


def until_ready(attempt: Callable[[], object], alive: Callable[[], bool], what: str, log: Callable[[], str], timeout: float = 120) -> None:
    """Try until `attempt` raises no longer; fail at once when the process is gone."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            attempt()
            return
        except Exception as error:
            if not alive() or time.monotonic() > deadline:
                raise StackError(f"{what} did not start ({error}):\n{log()[-3000:]}") from error
            time.sleep(0.05)


def port() -> int:
    """A free port below the range the kernel takes local ports from: a server that is down must find its port free when it
    comes back, and a client that keeps trying to reach it must not end up connected to itself."""
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        low = 32768
    for number in random.SystemRandom().sample(range(10240, low), 200) if low > 11000 else [0] * 200:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOCAL, number))
            found = int(probe.getsockname()[1])
            if found not in _ports:
                _ports.add(found)
                return found
    raise StackError("no free port found")


def alive(pid: int) -> bool:
    return _stat(pid)[0] not in "ZX"


def group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _stat(pid: int) -> tuple[str, int, str]:
    """State, parent and birth of a process; state X when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0, ""
    return fields[0], int(fields[1]), fields[19]


def _identity(pid: int) -> str:
    return f"{pid} {_stat(pid)[2]}"


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name), _stat(int(entry.name))[1]


if __name__ == "__main__":
    _guard(Path(sys.argv[1]), int(sys.argv[2]))
