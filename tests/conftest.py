import os
import shutil
import tempfile
from pathlib import Path

pytest_plugins = ["tests.stack.plugin", "tests.system"]

# Processes are killed here, machines are not: where there is room, no disk need be waited for.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
