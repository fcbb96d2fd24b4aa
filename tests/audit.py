"""Known vulnerabilities of all that is locked: `make audit`. Ends with 0 only when every package was looked up and none is vulnerable;
with 1 when some are, with 2 when some, or all, could not be looked up: then nothing is known of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCKS = ("requirements.lock", "requirements-dev.lock")
SECONDS = 600


def main() -> int:
    packages: dict[tuple[str, str], dict[str, object]] = {}
    told = ""
    for lock in LOCKS:
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--require-hashes",
            "--disable-pip",
            "--progress-spinner",
            "off",
            "-f",
            "json",
            "-r",
            lock,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        try:
            found = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            told = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:][0] if done.stderr or done.stdout else "no answer"
            found = []
        packages |= {(one["name"], one.get("version", "")): one for one in found}
    vulnerable = [(one, vuln) for one in packages.values() for vuln in one.get("vulns", ())]  # type: ignore[attr-defined]
    unknown = sorted(one["name"] for one in packages.values() if "skip_reason" in one)  # type: ignore[type-var]
    for one, vuln in vulnerable:
        print(
            f"{one['name']} {one['version']}: {vuln['id']} {' '.join(vuln['aliases'])}; fixed in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        )
    print(
        f"{len(packages) - len(unknown)} packages of {', '.join(Path(lock).name for lock in LOCKS)} looked up, {len(vulnerable)} vulnerabilities"
    )
    if unknown or not packages:
        print(
            f"NOT AUDITED: {len(unknown) or 'all'} packages could not be looked up, and nothing is known of them"
            f"{': ' + ', '.join(unknown[:5]) + ' …' if unknown else ''}\nThe vulnerability database of the package index is out of reach"
            f"{': ' + told if told else ''}. Run this where it can be reached."
        )
    return 1 if vulnerable else 2 if unknown or not packages else 0


if __name__ == "__main__":
    sys.exit(main())
