"""How thorough tests of random input are: `make fuzz` multiplies their examples, each run of it with other ones."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("ANSWERLINE_FUZZ") or 1)
USUAL = TIMES == 1
