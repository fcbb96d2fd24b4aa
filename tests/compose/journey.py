"""An installation's life under Docker Compose, in the order of this file: `make e2e-compose`. Not part of the whole suite: it needs a Docker
engine and builds images.

It begins with the commit before this one (ANSWERLINE_E2E_BEFORE names another), takes its first routed call, is upgraded to this working
tree, watched, restarted, backed up and restored, removed, and started from nothing; then another begins with a broker and a database that are
elsewhere. Projects, images and ports are their own: an installation on the same machine is not touched."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.stack.process import port
from tests.system import Client, eventually

ROOT = Path(__file__).parents[2]
BEFORE = os.environ.get("ANSWERLINE_E2E_BEFORE", "HEAD~1")
OURS = ("gateway", "im", "qa", "routing", "training")
JOBS = ("secrets", "migrate")
NUMBER, QUESTION = "+85221112222", "Which firmware has IPv6?"
PATIENCE = 300.0
PATIENT = {"timeout": "120s", "retries": 20, "start_period": "600s"}
"""Checks as a machine needs them that has other things to do: how long it took is printed. One start is with those that are shipped."""
HEALTHY_SECONDS = 60.0
QUIET_LOAD = 4.0
"""The load average of a machine on which a start's seconds say something."""
DEVNULL = Path(os.devnull)
EACH_TABLE = """select format('select %L, count(*), md5(string_agg(t::text, ''|'' order by t::text)) from %I t', tablename, tablename)
from pg_tables where schemaname = 'public' \\gexec
"""
UNTIL_HALF_RESTORED = f"""for service in {" ".join(OURS)}
do until psql -U postgres -At $service -c "select to_regclass('half_restored')" | grep -q .; do sleep 0.1; done
done"""
OBSERVABILITY = ("--profile", "observability")
SHELLS_AND_COMPILERS = ("sh", "bash", "dash", "gcc", "cc", "as", "ld", "apt", "apt-get", "dpkg", "perl", "pip")


class Installation:
    def __init__(self, place: Path, name: str = "e2e") -> None:
        self.project = f"answerline-{name}-{os.getpid()}"
        self.before, self.now = place / "before", place / "now"
        self.folder = self.before
        self.port, self.grafana_port = port(), port()
        self.settings = [f"ANSWERLINE_PUBLISH=127.0.0.1:{self.port}", f"GRAFANA_PUBLISH=127.0.0.1:{self.grafana_port}"]
        self.key = ""
        self.patience = place / "patience.yml"
        self.patience.write_text(json.dumps({"services": {name: {"healthcheck": PATIENT} for name in (*OURS, "postgres", "rabbitmq")}}))

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(["docker", "compose", *words], cwd=self.folder, env=os.environ | self.own, capture_output=True, text=True)
        assert not check or done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
        return done

    def pipe(self, *words: str, source: Path | None = None, target: Path | None = None) -> str:
        """A one-shot job between files; what it says."""
        with (source or DEVNULL).open("rb") as read, (target or DEVNULL).open("wb") as written:
            own = os.environ | self.own
            done = subprocess.run(
                ["docker", "compose", *words], cwd=self.folder, env=own, stdin=read, stdout=written, stderr=subprocess.PIPE
            )
        assert done.returncode == 0, (words, done.stderr[-3000:])
        return done.stderr.decode()

    def content(self) -> dict[str, str]:
        """Of each table of all databases: how many rows, and a hash of them."""
        found = {}
        for service in OURS:
            command = ["docker", "compose", "exec", "-T", "postgres", "psql", "-U", "postgres", "-At", service]
            own = os.environ | self.own
            done = subprocess.run(command, cwd=self.folder, env=own, input=EACH_TABLE, capture_output=True, text=True, check=True)
            found |= {f"{service}/{line.partition('|')[0]}": line for line in done.stdout.splitlines()}
        return found

    @property
    def own(self) -> dict[str, str]:
        files = ["docker-compose.yml", "docker-compose.override.yml", str(self.patience)]
        return {
            "COMPOSE_PROJECT_NAME": self.project,
            "ANSWERLINE_VERSION": f"{self.project}-{self.folder.name}",
            "COMPOSE_FILE": ":".join(name for name in files if (self.folder / name).exists()),
        }

    def run_in(self, service: str, *words: str) -> str:
        return self.compose("exec", "-T", service, *words).stdout

    def up(self) -> float:
        """As the documentation says. Seconds until everything is healthy, building left out."""
        if not (self.folder / ".env").exists():
            shutil.copy(self.folder / ".env.example", self.folder / ".env")
            with (self.folder / ".env").open("a") as settings:
                settings.write("\n".join(("", *self.settings, "")))
        self.compose("build")
        began = time.monotonic()
        self.compose("up", "-d", "--wait")
        self.key = self.run_in("gateway", "cat", "/run/secrets/admin-key").strip()
        return time.monotonic() - began

    @property
    def client(self) -> Client:
        return Client(("127.0.0.1", self.port), self.key)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each, by service."""
        ids = self.compose("--profile", "*", "ps", "-aq").stdout.split()
        found = json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True).stdout)
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def secrets(self) -> set[str]:
        """Everything that was generated, and every URL that holds some of it."""
        ours = "import pathlib; print(*(path.read_text() for path in pathlib.Path('/run/secrets').iterdir()))"
        told = "".join(self.run_in(service, "python", "-Ic", ours) for service in OURS)
        told += "".join(self.run_in(service, "sh", "-c", "cat /run/secrets/*") for service in ("postgres", "rabbitmq"))
        return set(re.findall(r"[A-Za-z0-9_-]{40,}", told))

    def unpack_this_tree(self) -> None:
        self.now.mkdir()
        files = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-c", "--null", "-T", "-", "-f", self.now / "tree.tar"], cwd=ROOT, input=files, check=True)
        subprocess.run(["tar", "-x", "-f", "tree.tar"], cwd=self.now, check=True)
        (self.now / "tree.tar").unlink()

    def remove(self) -> None:
        self.compose("--profile", "*", "down", "-v", "--remove-orphans", "--rmi", "local", "-t", "5", check=False)
        for folder in ("before", "now"):
            subprocess.run(["docker", "image", "rm", "-f", f"answerline:{self.project}-{folder}"], capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    engine = subprocess.run(["docker", "compose", "version"], capture_output=True) if shutil.which("docker") else None
    if engine is None or engine.returncode or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.fail("there is no Docker engine with Compose here; `make e2e-compose` needs one", pytrace=False)
    installation = Installation(tmp_path_factory.mktemp("compose"))
    installation.before.mkdir()
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", installation.before], input=archive, check=True)
    installation.unpack_this_tree()
    try:
        yield installation
    finally:
        installation.remove()


def calls(installation: Installation) -> dict[str, int]:
    queues = installation.client.get("/v1/reports/queues", source="pbx1").ok()["queues"]
    return {name: sum(queue[name] for queue in queues) for name in ("offered", "answered")}


def test_it_comes_up_healthy(installed: Installation) -> None:
    print(f"\n{BEFORE}: healthy after {installed.up():.1f} s")
    print("what these images are:", installed.run_in("postgres", "postgres", "--version").strip(), end=", ")
    print("RabbitMQ", installed.run_in("rabbitmq", "rabbitmqctl", "version").strip())
    states = {name: one["State"] for name, one in installed.containers().items()}
    assert {name for name, state in states.items() if state.get("Health", {}).get("Status") == "healthy"} == {*OURS, "postgres", "rabbitmq"}
    assert all(states[job]["ExitCode"] == 0 for job in JOBS)
    assert installed.client.get("/readyz").ok()["status"] == "ok"


@contextmanager
def a_call(installation: Installation, call: str) -> Iterator[str]:
    """From the dialplan's line to the report, and at the end of the block to its end: the contact's id."""
    client = installation.client
    before = calls(installation)
    told = {"event": "call.arrived", "queue": "support", "callid": call, "linkedid": call, "caller": NUMBER}
    client.put("/v1/queues/support", {"mode": "routed", "wrap_up": False}).ok()
    client.put("/v1/agents/chan", {"name": "Chan", "channels": ["voice"], "queues": ["support"], "address": "PJSIP/1001"}).ok()
    client.put("/v1/agents/chan/state", {"state": "available"}).ok()
    contact: str = client.post("/v1/telephony/asterisk/dialplan", told, source="pbx1").ok()["contact"]
    (offer,) = client.get("/v1/agents/chan/offers", wait=20).ok()["offers"]
    assert offer["contact"] == contact
    client.post(f"/v1/offers/{offer['id']}/accept", {"agent": "chan"}).ok()
    assigned = client.post(f"/v1/contacts/pbx1:{call}/assignment", wait=20).ok()
    assert (assigned["state"], assigned["address"]) == ("assigned", "PJSIP/1001")
    eventually(lambda: calls(installation) == {name: figure + 1 for name, figure in before.items()}, PATIENCE)
    try:
        yield contact
    finally:
        client.post(f"/v1/contacts/{contact}/end", {"ended_by": "caller"}).ok()
        eventually(lambda: not client.get("/v1/agents/chan").ok()["work"], PATIENCE)


def test_the_first_routed_call_and_an_experts_answer(installed: Installation) -> None:
    client = installed.client
    client.put("/v1/ladders/router", {"steps": [{"after": 0, "who": "experts"}], "ends_after": 600}).ok()
    client.put("/v1/experts/bob", {"name": "Bob", "topics": {"router": 5}}).ok()
    client.put("/v1/experts/bob/presence", {"state": "available"}).ok()
    with a_call(installed, "1795296258.5") as contact:
        asked = {"contact": contact, "topic": "router", "question": QUESTION, "person": "chan"}
        question = eventually(lambda: client.post("/v1/escalations", asked).ok(), PATIENCE)["id"]
        eventually(lambda: client.get(f"/v1/escalations/{question}").ok()["asked"], PATIENCE)
        client.post(f"/v1/escalations/{question}/claim", {"person": "bob"}).ok()
        client.post(f"/v1/escalations/{question}/answer", {"person": "bob", "text": "From 3.2 on."}).ok()
        assert client.post(f"/v1/escalations/{question}/accept", {"person": "chan"}).ok()["state"] == "accepted"


def test_an_upgrade_keeps_keys_and_data(installed: Installation) -> None:
    key, figures, secrets = installed.key, calls(installed), installed.secrets()
    installed.folder = installed.now
    print(f"\nthis working tree: healthy after {installed.up():.1f} s")
    images = {one["Config"]["Image"] for name, one in installed.containers().items() if name in OURS}
    assert images == {f"answerline:{installed.project}-now"}
    assert installed.key == key
    assert secrets <= installed.secrets()
    assert eventually(lambda: calls(installed) == figures, PATIENCE)
    assert installed.client.get("/v1/reports/experts").ok()["experts"][0]["accepted"] == 1
    with a_call(installed, "1795296259.5"):
        pass


def test_up_again_changes_nothing(installed: Installation) -> None:
    before = {name: one["Id"] for name, one in installed.containers().items() if name not in JOBS}
    installed.compose("up", "-d", "--wait")
    assert {name: one["Id"] for name, one in installed.containers().items() if name not in JOBS} == before
    assert "made " not in installed.compose("logs", "--no-log-prefix", "--since", "60s", "secrets").stdout


def test_what_watches_sees_everything(installed: Installation) -> None:
    """The profile `observability`. Where Grafana's image cannot be had it is left out, and the run says so."""
    no_image = {
        name
        for name in ("prometheus", "grafana")
        if installed.compose(*OBSERVABILITY, "pull", "-q", "--policy", "missing", name, check=False).returncode
    }
    if "prometheus" in no_image:
        image = installed.compose(*OBSERVABILITY, "config", "--images", "prometheus").stdout.split()[0]
        pytest.skip(f"NOT tried: the image {image} is not to be had here; pull or load it")
    watching = [name for name in ("prometheus", "grafana") if name not in no_image]
    installed.compose(*OBSERVABILITY, "up", "-d", "--wait", *watching)
    containers = installed.containers()
    for name in watching:
        assert containers[name]["State"]["Health"]["Status"] == "healthy", name
        locked_and_bounded(name, containers[name])

    def ask(path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:9090/api/v1/{path}?{urlencode(query)}"
        return json.loads(installed.run_in("prometheus", "wget", "-q", "-O", "-", url))["data"]

    def targets() -> dict[tuple[str, str], str]:
        return {(one["labels"]["job"], one["labels"].get("service", "")): one["health"] for one in ask("targets")["activeTargets"]}

    wanted = {*(("answerline", service) for service in OURS), *((name, "") for name in ("rabbitmq", "rabbitmq-queues", "prometheus"))}
    eventually(lambda: targets() == dict.fromkeys(wanted, "up"), PATIENCE, every=2)
    rules = [rule for group in eventually(lambda: ask("rules"), PATIENCE)["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    seen = eventually(lambda: ask("query", query="sum(answerline_gateway_correlated_observations_total) > 0")["result"], PATIENCE, every=2)
    print(
        f"\nPrometheus {ask('status/buildinfo')['version']}: {len(wanted)} targets up, {len(rules)} rules, {seen[0]['value'][1]} observations seen",
        end="; ",
    )
    if "grafana" in watching:
        password = installed.run_in("grafana", "cat", "/run/secrets/admin-password").strip()
        grafana = Client(("127.0.0.1", installed.grafana_port), None)
        headers = {"Authorization": f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"}
        shown = grafana.request("GET", "/api/search", headers=headers, query={"type": "dash-db"}).ok()
        assert len(shown) == len([*(installed.folder / "deploy" / "grafana" / "dashboards").glob("*.json")])
        assert grafana.request("GET", "/api/datasources/uid/prometheus/health", headers=headers).ok()["status"] == "OK"
        assert grafana.get("/api/search").status == 401
        print(f"Grafana: {len(shown)} dashboards")
    else:
        print("Grafana did NOT run: its image is not to be had here")
    installed.compose(*OBSERVABILITY, "rm", "-sf", *watching)


def test_a_restart_of_everything_keeps_all(installed: Installation) -> None:
    figures = calls(installed)
    began = time.monotonic()
    installed.compose("restart")
    installed.compose("up", "-d", "--wait")
    print(f"\nrestarted within {time.monotonic() - began:.1f} s")
    assert calls(installed) == figures
    with a_call(installed, "1795296260.5"):
        pass


@pytest.mark.parametrize("service", OURS)
def test_a_service_that_dies_is_started_again(installed: Installation, service: str) -> None:
    state = installed.containers()[service]["State"]
    os.kill(state["Pid"], signal.SIGKILL)
    eventually(lambda: installed.containers()[service]["State"]["StartedAt"] != state["StartedAt"], PATIENCE, every=0.5)
    eventually(lambda: installed.containers()[service]["State"]["Health"]["Status"] == "healthy", PATIENCE, every=0.5)
    with a_call(installed, f"179529627{OURS.index(service)}.5"):
        pass


def test_no_default_password_lets_anybody_in(installed: Installation) -> None:
    assert "guest" not in installed.run_in("rabbitmq", "rabbitmqctl", "-q", "list_users")
    knock = (
        "import psycopg2, sys\n"
        "for user in ('postgres', 'gateway', 'routing', 'im'):\n"
        "    for password in ('', user, 'postgres', 'password', 'answerline'):\n"
        "        try:\n"
        "            psycopg2.connect(host='postgres', dbname='gateway', user=user, password=password)\n"
        "        except psycopg2.OperationalError as error:\n"
        "            assert 'password' in str(error), error\n"
        "        else:\n"
        "            sys.exit(f'{user} came in with {password!r}')\n"
    )
    installed.run_in("routing", "python", "-Ic", knock)
    for key in ("", "admin", "al_", "password", "guest"):
        Client(("127.0.0.1", installed.port), key).get("/v1/keys").problem(401)


def test_without_secrets_nothing_boots(installed: Installation) -> None:
    for service in OURS:
        command = ["docker", "run", "--rm", "--network", "none", f"answerline:{installed.project}-now", "service", service]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].startswith("Error: ANSWERLINE_BROKER_URL:")


def test_a_service_reaches_no_others_database(installed: Installation) -> None:
    knock = (
        "import psycopg2, sys\n"
        "url = open('/run/secrets/database-url').read()\n"
        "psycopg2.connect(url).close()\n"
        "try:\n"
        "    psycopg2.connect(url.rpartition('/')[0] + '/gateway')\n"
        "except psycopg2.OperationalError as error:\n"
        "    sys.exit('permission denied' not in str(error))\n"
        "sys.exit('it came in')\n"
    )
    installed.run_in("routing", "python", "-Ic", knock)


def locked_and_bounded(name: str, one: dict[str, Any]) -> None:
    host = one["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"], name
    assert host["SecurityOpt"] == ["no-new-privileges:true"], name
    assert host["Memory"] > 0 and host["LogConfig"]["Config"]["max-size"] == "10m", name
    assert name == "secrets" or one["Config"]["User"].partition(":")[0] not in ("", "0", "root"), name
    assert bool(host["PortBindings"]) == (name in ("gateway", "grafana")), name
    assert host["ReadonlyRootfs"] or name in ("postgres", "rabbitmq"), name


def test_containers_are_locked_and_bounded(installed: Installation) -> None:
    for name, one in installed.containers().items():
        locked_and_bounded(name, one)
        if name in OURS:
            assert one["Config"]["StopTimeout"] >= 25, name
            assert installed.compose("exec", "-T", name, "touch", "/opt/answerline/x", check=False).returncode, name


def test_our_image_has_no_shell_no_compiler_and_no_installer(installed: Installation) -> None:
    look = f"import shutil; print([name for name in {SHELLS_AND_COMPILERS} if shutil.which(name, path='/opt/answerline/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin')])"
    assert installed.run_in("gateway", "python", "-Ic", look).strip() == "[]"


def test_the_database_has_no_way_out(installed: Installation) -> None:
    networks = {name: set(one["NetworkSettings"]["Networks"]) for name, one in installed.containers().items()}
    assert networks["postgres"] == {f"{installed.project}_data"}
    assert [name for name, those in networks.items() if f"{installed.project}_edge" in those] == ["gateway"]
    told = subprocess.run(["docker", "network", "inspect", f"{installed.project}_data"], capture_output=True, text=True, check=True).stdout
    assert json.loads(told)[0]["Internal"] is True


def test_nothing_secret_or_personal_is_in_logs_and_environment(installed: Installation) -> None:
    logs = installed.compose("logs", "--no-color").stdout
    environment = json.dumps([one["Config"]["Env"] for one in installed.containers().values()])
    assert "started" in logs
    for secret in installed.secrets() | {NUMBER, NUMBER.lstrip("+"), QUESTION}:
        assert secret not in logs, "in a log"
        assert secret not in environment, "in the environment"


def test_a_backup_brings_everything_back_after_all_was_wiped(installed: Installation) -> None:
    online, archive = installed.folder / "online.tar", installed.folder / "centre.tar"
    began = time.monotonic()
    installed.pipe("run", "--rm", "-T", "backup", target=online)
    print(f"\nbacked up within {time.monotonic() - began:.1f} s, {online.stat().st_size} bytes")
    installed.pipe("run", "--rm", "-T", "backup", "restore", "--check", "-", source=online)
    figures, key = calls(installed), installed.key
    kept = {name: installed.run_in("gateway", "cat", f"/run/secrets/{name}") for name in ("secret-key", "admin-key")}
    installed.compose("stop", *OURS)
    before = installed.content()
    installed.pipe("run", "--rm", "-T", "backup", target=archive)
    installed.compose("--profile", "*", "down", "-v")

    (installed.folder / "secrets").mkdir()
    for name, secret in kept.items():
        (installed.folder / "secrets" / name).write_text(secret)
    shutil.copy(installed.folder / "deploy" / "compose.override.example.yml", installed.folder / "docker-compose.override.yml")
    print(installed.pipe("run", "--rm", "-T", "restore", source=archive))
    after = installed.content()
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {"gateway/audit"}
    print(f"restored: healthy after {installed.up():.1f} s")
    assert installed.key == key
    assert calls(installed) == figures
    with a_call(installed, "1795296290.5"):
        pass


def test_a_restore_that_was_cut_off_is_run_again(installed: Installation) -> None:
    """Killed when it had begun to replace what was there: it waits for a broker that stands still."""
    archive, name = installed.folder / "centre.tar", f"{installed.project}-cut-off"
    figures = calls(installed)
    installed.compose("stop", *OURS)
    broker = installed.containers()["rabbitmq"]["Id"]
    subprocess.run(["docker", "pause", broker], capture_output=True, check=True)
    try:
        words = ["docker", "compose", "run", "--rm", "-T", "--no-deps", "--name", name, "backup", "restore", "--yes", "-"]
        with archive.open("rb") as source:
            restoring = subprocess.Popen(
                words, cwd=installed.folder, env=os.environ | installed.own, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        try:
            installed.run_in("postgres", "timeout", str(PATIENCE), "bash", "-c", UNTIL_HALF_RESTORED)
        finally:
            subprocess.run(["docker", "kill", name], capture_output=True)
            told = restoring.communicate()[1]
        assert restoring.returncode == 137, told
    finally:
        subprocess.run(["docker", "unpause", broker], capture_output=True, check=True)
    refused = installed.compose("run", "--rm", "-T", "migrate", check=False)
    assert refused.returncode and "run `answerline restore` again" in refused.stdout + refused.stderr

    installed.pipe("run", "--rm", "-T", "restore", source=archive)
    installed.up()
    assert calls(installed) == {what: figure - 1 for what, figure in figures.items()}  # without the call that came after the backup
    with a_call(installed, "1795296291.5"):
        pass


def test_told_to_stop_they_finish_and_go(installed: Installation) -> None:
    installed.compose("stop")
    codes = {name: one["State"]["ExitCode"] for name, one in installed.containers().items()}
    assert {name: codes[name] for name in (*OURS, "postgres")} == dict.fromkeys((*OURS, "postgres"), 0)


def test_removed_it_leaves_nothing(installed: Installation) -> None:
    installed.compose("--profile", "*", "down", "-v")
    for kind in ("container", "volume", "network"):
        words = ["docker", kind, "ls", "-q", "--filter", f"label=com.docker.compose.project={installed.project}"]
        assert subprocess.run([*words, *(["-a"] if kind == "container" else [])], capture_output=True, text=True, check=True).stdout == ""


def test_started_from_nothing_as_documented_it_is_healthy_within_a_minute(installed: Installation) -> None:
    """With the checks that are shipped. On a machine that has other things to do, how long it takes says nothing: it is only told."""
    installed.patience.unlink()
    (installed.folder / "docker-compose.override.yml").unlink()
    load = os.getloadavg()[0]
    began = time.monotonic()
    done = installed.compose("up", "-d", "--wait", check=load < QUIET_LOAD)
    seconds = time.monotonic() - began
    outcome = "healthy" if done.returncode == 0 else f"NOT healthy ({done.stderr[-300:]})"
    print(f"\nfrom nothing, with the shipped checks: {outcome} after {seconds:.1f} s; load average {load:.1f} at its begin")
    assert load >= QUIET_LOAD or seconds <= HEALTHY_SECONDS
    installed.compose("down", "-v")


# ---- another one, whose broker and database are elsewhere


@dataclass(frozen=True)
class Elsewhere:
    """Somebody else's broker and database, on this machine outside of the project: known by their URLs alone."""

    broker: str
    database: str
    password: str


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """As docs/operations.md says: a user with rights to our names, and of each service a role that owns an empty database."""
    told = subprocess.run(["docker", "network", "inspect", "bridge"], capture_output=True, text=True, check=True).stdout
    address = json.loads(told)[0]["IPAM"]["Config"][0]["Gateway"]
    password, ports = secrets.token_urlsafe(24), (port(), port())
    names = tuple(f"answerline-elsewhere-{os.getpid()}-{what}" for what in ("broker", "database"))

    def run_in(name: str, *words: str) -> None:
        subprocess.run(["docker", "exec", name, *words], capture_output=True, check=True)

    def listens(name: str, *words: str) -> bool:
        return subprocess.run(["docker", "exec", name, *words], capture_output=True).returncode == 0

    def start(name: str, published: str, *words: str) -> None:
        subprocess.run(["docker", "run", "-d", "--name", name, "-p", f"{address}:{published}", *words], capture_output=True, check=True)

    try:
        start(names[0], f"{ports[0]}:5672", "rabbitmq:3.13-management")
        start(names[1], f"{ports[1]}:5432", "-e", f"POSTGRES_PASSWORD={password}", "postgres:16")
        eventually(lambda: listens(names[1], "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"), PATIENCE, every=0.5)
        for service in OURS:
            role, database = f"create role {service} login password '{password}'", f"create database {service} owner {service}"
            run_in(names[1], "psql", "-U", "postgres", "-c", role, "-c", database, "-c", f"revoke all on database {service} from public")
        eventually(lambda: listens(names[0], "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5672"), PATIENCE, every=0.5)
        run_in(names[0], "rabbitmqctl", "add_vhost", "answerline")
        run_in(names[0], "rabbitmqctl", "add_user", "answerline", password)
        rights = (r"^answerline\.", r"^(answerline\..*|amq\.default)$", r"^answerline\.")
        run_in(names[0], "rabbitmqctl", "set_permissions", "-p", "answerline", "answerline", *rights)
        yield Elsewhere(
            f"amqp://answerline:{password}@{address}:{ports[0]}/answerline",
            f"postgresql://{{service}}:{password}@{address}:{ports[1]}/{{service}}",
            password,
        )
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", *names], capture_output=True)


def test_a_broker_and_a_database_elsewhere_need_their_urls_and_no_more(
    tmp_path: Path, installed: Installation, elsewhere: Elsewhere
) -> None:
    own = Installation(tmp_path, "elsewhere")
    own.folder = own.now
    own.settings += [f"ANSWERLINE_BROKER_URL={elsewhere.broker}", "RABBITMQ_REPLICAS=0"]
    own.settings += [f"ANSWERLINE_DATABASE_URL={elsewhere.database}", "POSTGRES_REPLICAS=0"]
    try:
        own.unpack_this_tree()
        print(f"\nwith a broker and a database elsewhere: healthy after {own.up():.1f} s")
        assert own.containers().keys() == {*OURS, *JOBS}
        with a_call(own, "1795296258.5"):
            pass
        archive = tmp_path / "centre.tar"
        own.pipe("run", "--rm", "-T", "backup", target=archive)
        own.pipe("run", "--rm", "-T", "backup", "restore", "--check", "-", source=archive)
        assert own.containers().keys() == {*OURS, *JOBS}
        assert elsewhere.password not in own.compose("logs", "--no-color").stdout
    finally:
        own.remove()


def test_the_example_of_an_override_is_valid_in_each_of_its_parts(installed: Installation) -> None:
    example = (ROOT / "deploy" / "compose.override.example.yml").read_text()
    parts = re.split(r"\n\n(?=  #)", example.partition("services:\n")[2])
    assert len(parts) > 4
    for part in parts:
        (installed.folder / "part.yml").write_text("services:\n" + re.sub(r"(?m)^  # ( *[a-z]+:.*)$", r"  \1", part) + "\n")
        done = subprocess.run(
            ["docker", "compose", "-f", "docker-compose.yml", "-f", "part.yml", *OBSERVABILITY, "config", "-q"],
            cwd=installed.now, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (part, done.stderr)
