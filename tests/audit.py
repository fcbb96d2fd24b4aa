"""Known vulnerabilities of all that is locked: `make audit`. This program ends with 0 only when every package of every lock was looked up and none is
vulnerable; with 1 when some are; with 2 when none is known to be, but some, or all, could not be looked up: then nothing is known of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-tools.lock")
SECONDS = 600
COMMAND = (sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off", "-f", "json", "-r")


def look_up(lock: str) -> list[dict[str, Any]] | str:
    """What pip-audit says of each package of a lock, or why it says nothing."""
    if not Path(lock).exists():
        return "no such file"
    try:
        done = subprocess.run([*COMMAND, lock], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    try:
        return json.loads(done.stdout)["dependencies"] or "no package in it"
    except (ValueError, KeyError, TypeError):
        return ((done.stderr.strip() or done.stdout.strip()).splitlines() or ["no answer"])[-1]


def verdict(answers: Mapping[str, list[dict[str, Any]] | str]) -> tuple[int, list[str]]:
    """How it ends, and what is said, of what each lock's `look_up` gave."""
    failed = {lock: why for lock, why in answers.items() if isinstance(why, str)}
    packages = [one for found in answers.values() if not isinstance(found, str) for one in found]
    skipped = {one["name"]: one["skip_reason"] for one in packages if "skip_reason" in one}
    known = {(one["name"], one["version"]) for one in packages if "skip_reason" not in one}
    # a set: what the product needs is in the lock of the tests, too
    vulnerable = {
        f"{one['name']} {one['version']}: {vuln['id']} {' '.join(vuln['aliases'])}; fixed in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        for one in packages
        for vuln in one.get("vulns", ())
    }
    lines = [*sorted(vulnerable), f"{len(known)} packages of {', '.join(answers)} looked up, {len(vulnerable)} vulnerabilities"]
    lines += [f"NOT AUDITED: {lock}: {why}" for lock, why in failed.items()]
    if skipped:
        first, *others = sorted(skipped)
        lines.append(f"NOT AUDITED: {', '.join([first, *others[:4]])}{' …' * (len(others) > 4)}, {len(skipped)} packages: {skipped[first]}")
    if failed or skipped:
        lines.append(
            "Nothing is known of what was not audited. Run this where the package index and its database of vulnerabilities can be reached."
        )
    return 1 if vulnerable else 2 if failed or skipped or not known else 0, lines


def main() -> int:
    code, lines = verdict({lock: look_up(lock) for lock in LOCKS})
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
