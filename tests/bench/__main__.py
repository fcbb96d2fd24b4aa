"""All benches with servers of their own: python -m tests.bench [--json]"""

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import bring_up

ANSWERLINE = Path(sys.executable).parent / "answerline"


def main() -> int:
    options = sys.argv[1:]
    print("ingest (SQLite)", file=sys.stderr)
    failed = subprocess.run([ANSWERLINE, "bench", "ingest", *options], check=False).returncode
    print("decide (the engine alone)", file=sys.stderr)
    failed |= subprocess.run([ANSWERLINE, "bench", "decide", *options], check=False).returncode
    print("stream (SQLite, 3,000 listeners)", file=sys.stderr)
    failed |= subprocess.run([ANSWERLINE, "bench", "stream", *options], check=False).returncode
    with bring_up() as stack:
        if stack.missing:
            print(f"pipeline and route not measured: {stack.missing}", file=sys.stderr)
            return 1
        database = stack.database.create("bench_routing")
        environment = {**os.environ, "ANSWERLINE_BROKER_URL": stack.broker.url, "ANSWERLINE_DATABASE_URL": database}
        for name in ("pipeline", "route"):
            print(f"{name} (RabbitMQ, PostgreSQL)", file=sys.stderr)
            failed |= subprocess.run([ANSWERLINE, "bench", name, *options], env=environment, check=False).returncode
        for name in ("gateway", "im"):
            database = stack.database.create(f"bench_{name}")
        environment["ANSWERLINE_DATABASE_URL"] = database.removesuffix("im") + "{service}"
        print("im (RabbitMQ, PostgreSQL)", file=sys.stderr)
        failed |= subprocess.run([ANSWERLINE, "bench", "im", *options], env=environment, check=False).returncode
        stack.database.create("bench_qa")
        print("qa (PostgreSQL)", file=sys.stderr)
        failed |= subprocess.run([ANSWERLINE, "bench", "qa", *options], env=environment, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
