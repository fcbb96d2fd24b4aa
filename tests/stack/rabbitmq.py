"""A RabbitMQ for tests: somebody else's (`Broker`), a private node of the installed binaries (`LocalBroker`), or a container."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

from kombu.connection import Connection

from . import container, process
from .process import LOCAL, StackError

IMAGE = "rabbitmq:3.13-management"
USER = "answerline"

CONFIG = """\
listeners.tcp.1 = {host}:{port}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 1MB
vm_memory_high_watermark.relative = 0.4
raft.wal_max_size_bytes = 67108864
log.console = false
log.file.level = info
"""
VHOST = """\
case rabbit_vhost:exists(<<"{name}">>) of true -> rabbit_vhost:delete(<<"{name}">>, <<"{user}">>); false -> ok end,
ok = rabbit_vhost:add(<<"{name}">>, <<"{user}">>),
ok = rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"{user}">>).
"""
"""In one call: each starts a virtual machine, which takes half a second of a core."""


@dataclass
class Broker:
    """A RabbitMQ that is not ours: it can be used, and nothing else."""

    url: str
    owned: bool = False
    what: str = "given by ANSWERLINE_TEST_BROKER_URL"

    def start(self) -> Self:
        """Start, or start again with the same data, and wait until AMQP accepts."""
        raise self._not_ours("start")

    def stop(self) -> None:
        """Orderly shutdown; the data stays."""
        raise self._not_ours("stop")

    def kill(self) -> None:
        """kill -9; the data stays."""
        raise self._not_ours("kill")

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def wipe(self) -> Self:
        """Stop, delete all data, start empty: same address, user and password, no vhost but `/`."""
        raise self._not_ours("wipe")

    def remove(self) -> None:
        """The end: stop at once and delete everything."""
        raise self._not_ours("remove")

    def running(self) -> bool:
        try:
            self.check()
        except Exception:  # noqa: BLE001 - whatever it is, it does not run
            return False
        return True

    def check(self) -> None:
        """Raise unless AMQP really accepts: a connection and a channel."""
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname or LOCAL, parts.port or 5672), timeout=5):
            pass  # kombu itself would sleep 2 s before its second try
        connection: Any = Connection(self.url, connect_timeout=5)  # type: ignore[no-untyped-call]
        with connection:
            connection.connect()
            connection.channel().close()

    def ctl(self, *args: str) -> str:
        """The output of `rabbitmqctl --quiet …`."""
        raise self._not_ours("rabbitmqctl")

    def queues(self, vhost: str = "/") -> dict[str, int]:
        """Messages (ready and unacknowledged) in each queue."""
        lines = self.ctl("--no-table-headers", "-p", vhost, "list_queues", "name", "messages").splitlines()
        return {name: int(count) for name, _, count in (line.rpartition("\t") for line in lines) if name}

    def vhost(self, name: str) -> str:
        """Make an empty vhost and return its URL; the same URL where we may not make one."""
        return self.url

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _not_ours(self, verb: str) -> StackError:
        return StackError(f"{verb}: this broker ({self.what}) is not ours; take a fresh_broker")


@dataclass
class _OwnBroker(Broker):
    url: str = ""
    owned: bool = True
    host: str = LOCAL
    port: int = field(default_factory=process.port)
    password: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self.url = self.url or self._url("/")

    def _url(self, vhost: str) -> str:
        return f"amqp://{USER}:{self.password}@{self.host}:{self.port}/{quote(vhost, safe='')}"

    def vhost(self, name: str) -> str:
        self.ctl("eval", VHOST.format(name=name, user=USER))
        return self._url(name)

    def _need_owned(self, verb: str) -> None:
        if not self.owned:
            raise self._not_ours(verb)


@dataclass
class LocalBroker(_OwnBroker):
    """A node of its own beside whatever else runs here: own name, ports, epmd, cookie and folders."""

    what: str = "private node of the installed rabbitmq-server"
    home: str = ""
    metrics_port: int = 0
    """Where its plugin for Prometheus listens; 0: not at all, which starts faster."""
    certificate: str = ""
    authority: str = ""
    """The certificate is of a file with its key: TLS is spoken on `tls_port` too, with whoever shows one of that authority."""
    tls_port: int = field(default_factory=process.port)
    node: str = field(default_factory=lambda: f"answerline-test-{os.getpid()}-{secrets.token_hex(3)}@localhost")
    dist_port: int = field(default_factory=process.port)
    epmd_port: int = field(default_factory=process.port)

    _beam: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _epmd: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @staticmethod
    def binary(name: str) -> str | None:
        # /usr/sbin/rabbitmq* are wrappers that change to the user rabbitmq and its folders: not for us
        direct = Path("/usr/lib/rabbitmq/bin", name)
        return str(direct) if direct.exists() else shutil.which(name)

    @classmethod
    def installed(cls) -> bool:
        return bool(cls.binary("rabbitmq-server") and shutil.which("epmd"))

    def start(self) -> Self:
        self._need_owned("start")
        if self._beam and self._beam.poll() is None:
            raise StackError("this broker runs already")
        home = self._folder()
        told = f"prometheus.tcp.ip = {LOCAL}\nprometheus.tcp.port = {self.metrics_port}\n" if self.metrics_port else ""
        if self.certificate:
            told += f"listeners.ssl.1 = {LOCAL}:{self.tls_port}\n"
            told += f"ssl_options.cacertfile = {self.authority}\nssl_options.certfile = {self.certificate}\nssl_options.keyfile = {self.certificate}\n"
            told += "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        (home / "rabbitmq.conf").write_text(CONFIG.format(host=LOCAL, port=self.port, user=USER, password=self.password) + told)
        (home / "enabled_plugins").write_text("[rabbitmq_prometheus].\n" if self.metrics_port else "[].\n")
        (home / "rabbitmq-env.conf").touch()
        if not self._epmd or self._epmd.poll() is not None:
            argv = ["epmd", "-address", LOCAL, "-port", str(self.epmd_port)]
            self._epmd = process.spawn(argv, env=self._env(), log=home / "epmd.log")
        server = self.binary("rabbitmq-server")
        if not server:
            raise StackError("rabbitmq-server is not installed")
        beam = self._beam = process.spawn([server], env=self._env(), log=home / "console.log")
        process.until_ready(self.check, lambda: beam.poll() is None, "RabbitMQ", self.log)
        return self

    def stop(self) -> None:
        self._need_owned("stop")
        if self._beam:
            process.end(self._beam, signal.SIGTERM)

    def kill(self) -> None:
        self._need_owned("kill")
        if self._beam and self._beam.poll() is None:
            process.kill_tree(self._beam.pid)
            self._beam.wait()

    def wipe(self) -> Self:
        self.kill()
        shutil.rmtree(self._folder() / "mnesia", ignore_errors=True)
        return self.start()

    def remove(self) -> None:
        self.kill()
        if self._epmd:
            process.end(self._epmd, signal.SIGKILL)
        if self.home:
            shutil.rmtree(self.home, ignore_errors=True)

    def ctl(self, *args: str) -> str:
        done = subprocess.run(
            [self.binary("rabbitmqctl") or "rabbitmqctl", "--quiet", *args],
            env=self._env(), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise StackError(f"rabbitmqctl {' '.join(args)}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout

    def log(self) -> str:
        paths = [self._folder() / "console.log", *sorted(self._folder().glob("log/*.log"))]
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in paths if path.exists())

    def _folder(self) -> Path:
        self.home = self.home or str(process.folder("rabbitmq"))
        Path(self.home).mkdir(parents=True, exist_ok=True)
        return Path(self.home)

    def _env(self) -> dict[str, str]:
        home = self._folder()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_")) and k != "NOTIFY_SOCKET"}
        return kept | {
            "HOME": str(home),  # the cookie is made there
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": LOCAL,
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "mnesia" / "feature_flags"),  # goes with the data
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            # RabbitMQ's own arguments never spin while waiting, which doubles the start on a machine of few cores (7 s, so 3.2 s)
            "RABBITMQ_SERVER_ERL_ARGS": "+P 65536 +t 1048576 +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CTL_DIST_PORT_MIN": "35672",
            "RABBITMQ_CTL_DIST_PORT_MAX": "35771",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node itself: our child's pid is the broker's
        }


@dataclass
class ContainerBroker(_OwnBroker):
    what: str = f"container {IMAGE}"
    host: str = field(default_factory=container.host)
    name: str = field(default_factory=lambda: container.name("rabbitmq"))

    def start(self) -> Self:
        self._need_owned("start")
        if container.exists(self.name):
            container.docker("start", self.name)
        else:
            container.run(self.name, IMAGE, self.port, 5672, {"RABBITMQ_DEFAULT_USER": USER, "RABBITMQ_DEFAULT_PASS": self.password})
        process.until_ready(self.check, lambda: container.running(self.name), "RabbitMQ", lambda: container.logs(self.name), timeout=120)
        return self

    def stop(self) -> None:
        self._need_owned("stop")
        container.docker("stop", "-t", "30", self.name)

    def kill(self) -> None:
        self._need_owned("kill")
        if container.running(self.name):
            container.docker("kill", self.name)

    def wipe(self) -> Self:
        self.remove()
        return self.start()

    def remove(self) -> None:
        self._need_owned("remove")
        if container.exists(self.name):
            container.docker("rm", "-f", "-v", self.name)

    def ctl(self, *args: str) -> str:
        return container.docker("exec", self.name, "rabbitmqctl", "--quiet", *args)


def attach(handle: dict[str, Any]) -> Broker:
    """A handle on a broker that another process started and will end: usable, with `ctl`, but not to be stopped from here."""
    kinds = {kind.__name__: kind for kind in (Broker, LocalBroker, ContainerBroker)}
    known = dict(handle)
    return kinds[known.pop("kind")](**known | {"owned": False})


def handle(broker: Broker) -> dict[str, Any]:
    return {"kind": type(broker).__name__} | {k: v for k, v in vars(broker).items() if not k.startswith("_")}
