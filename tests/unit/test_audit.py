"""What `make audit` makes of what pip-audit says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.audit import verdict

FINE = {"name": "kombu", "version": "5.6.0", "vulns": []}
SKIPPED = {"name": "kombu", "skip_reason": "not found on the index"}
VULNERABLE = {"name": "flask", "version": "0.1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["0.2"]}]}


@pytest.mark.parametrize(
    ("one", "other", "code", "said"),
    [
        ([FINE], [FINE], 0, "1 packages of one.lock, other.lock looked up, 0 vulnerabilities"),
        ([FINE], "out of reach", 2, "NOT AUDITED: other.lock: out of reach"),
        ([FINE], [SKIPPED], 2, "NOT AUDITED: kombu, 1 packages: not found on the index"),
        ([VULNERABLE], [VULNERABLE, FINE], 1, "2 packages of one.lock, other.lock looked up, 1 vulnerabilities"),
        ([VULNERABLE], "out of reach", 1, "NOT AUDITED: other.lock: out of reach"),
        ([VULNERABLE], [FINE], 1, "flask 0.1: PYSEC-1 CVE-1; fixed in 0.2"),
    ],
)
def test_only_what_was_wholly_looked_up_ends_with_0(one: Any, other: Any, code: int, said: str) -> None:
    ends, lines = verdict({"one.lock": one, "other.lock": other})
    assert (ends, said in lines) == (code, True), lines
