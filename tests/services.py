"""Sees to it that the servers which tests need are there (`make services`), and says which.

PostgreSQL: its programs are installed by Debian's package when they are missing and this user may
do so. No server is left running: each test process starts a private one and ends it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from postgres_server import PostgresServer, programs

ATTEMPTS, PAUSE_SECONDS = 3, 10

#: Where the clients of other languages are.
NODE = Path(__file__).with_name("node")

BY_HAND = """PostgreSQL is missing and cannot be installed from here. Install the server's programs:
  Debian, Ubuntu: apt-get install postgresql
  Fedora:         dnf install postgresql-server
Without them the tests of the PostgreSQL store are skipped."""


def main() -> int:
    """0 when everything is there."""
    if programs() is None and not install("postgresql"):
        print(BY_HAND)
        return 1
    server = PostgresServer()
    try:
        version = server.version()
    finally:
        server.close()
    print(f"PostgreSQL {version} in {programs()}: each test process starts its own and ends it")
    return 0 if clients() and browser() else 1


def browser() -> bool:
    """Installs Chromium, in which narratives are shown; True when it is there."""
    if shutil.which("chromium") is None and not install("chromium"):
        print("Chromium is missing; without it the test that nothing runs in a browser is skipped")
        return False
    print("Chromium, for what a narrative may not do")
    return True


def clients() -> bool:
    """Installs the clients from the npm registry; True when they are there."""
    if not (shutil.which("node") and shutil.which("npm")) and not install("nodejs", "npm"):
        print("Node.js is missing; without it the tests of fhir-kit-client are skipped")
        return False
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * attempt)
        if subprocess.run(command, cwd=NODE, check=False).returncode == 0:
            print("fhir-kit-client in tests/node")
            return True
    return False


def install(*packages: str) -> bool:
    """True when Debian's packages could be installed."""
    if shutil.which("apt-get") is None:
        return False
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if as_root and shutil.which("sudo") is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
    )
    for attempt in range(ATTEMPTS):  # downloads may fail for a moment
        if attempt:
            time.sleep(PAUSE_SECONDS * attempt)
        done = [
            subprocess.run([*as_root, *command], env=environment, check=False).returncode
            for command in commands
        ]
        if done[-1] == 0:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
