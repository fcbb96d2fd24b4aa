"""The few things we ask of a Docker engine, through its client."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from urllib.parse import urlsplit

from . import process


def docker(*args: str, timeout: float = 60) -> str:
    try:
        done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise process.StackError(f"docker {args[0]}: {error}") from error
    if done.returncode:
        raise process.StackError(f"docker {args[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def available(image: str) -> str:
    """Empty when an engine answers and has the image or can pull it; otherwise the reason."""
    if not shutil.which("docker"):
        return "no docker client"
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout=10)
    except process.StackError:
        return "no Docker engine answers"
    try:
        docker("image", "inspect", image)
    except process.StackError:
        process.say(f"pulling the image {image}")
        try:
            docker("pull", "--quiet", image, timeout=300)
        except process.StackError as error:
            return f"the Docker engine cannot pull {image} ({error})"
    return ""


def host() -> str:
    """Where published ports appear: here, or on the machine of a remote engine."""
    return urlsplit(os.environ.get("DOCKER_HOST", "")).hostname or process.LOCAL


def name(kind: str) -> str:
    return f"answerline-test-{os.getpid()}-{kind}-{secrets.token_hex(3)}"


def run(name: str, image: str, port: int, inner_port: int, env: dict[str, str], command: Sequence[str] = ()) -> None:
    process.note(f"container {name}")
    bind = process.LOCAL if host() == process.LOCAL else "0.0.0.0"
    settings = [part for key, value in env.items() for part in ("-e", f"{key}={value}")]
    docker("run", "-d", "--name", name, "--hostname", "answerline", "-p", f"{bind}:{port}:{inner_port}", *settings, image, *command)


def exists(name: str) -> bool:
    return bool(docker("ps", "-aq", "--filter", f"name=^{name}$").strip())


def running(name: str) -> bool:
    return bool(docker("ps", "-q", "--filter", f"name=^{name}$", "--filter", "status=running").strip())


def logs(name: str) -> str:
    done = subprocess.run(["docker", "logs", "--tail", "40", name], capture_output=True, text=True)
    return done.stdout + done.stderr
