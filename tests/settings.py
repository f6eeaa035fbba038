"""Settings of the test suite: the product's own, in a data directory that goes away."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "CONSOLE_TEST_DATA" not in os.environ:
    # Child processes of a test run share its directory; only the first one removes it.
    os.environ["CONSOLE_TEST_DATA"] = tempfile.mkdtemp(prefix="command-console-tests-")
    atexit.register(shutil.rmtree, os.environ["CONSOLE_TEST_DATA"], ignore_errors=True)
# Each process of the suite has its own part of it: the brokers of two, of one data directory, take
# the socket away from each other.
os.environ["CONSOLE_DATA_DIR"] = os.path.join(
    os.environ["CONSOLE_TEST_DATA"], os.environ.get("PYTEST_XDIST_WORKER", "main")
)

from console.settings import *  # noqa: F403
from console.settings import DATA_DIR, DATABASES

DATA_DIR.mkdir(mode=0o700, exist_ok=True)

# Threads and servers share the test database, so it is a file rather than memory.
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
    # Two hundred writers at one moment take longer than the product's 20 s on a busy machine.
    DATABASES["default"]["OPTIONS"]["timeout"] = 120
else:
    # There they wait for one of a few connections, of itself for 30 s at most.
    DATABASES["default"]["OPTIONS"]["pool"]["timeout"] = 120
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
