"""Servers that fork workers, as gunicorn does: a client from before the fork is refused, one from after it works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.producer_world import Player, world
from writebehind.embedded import Isolation

ROOT = Path(__file__).parents[2]
WORKERS = 2
# The master uses its client before it forks, and goes on using it afterwards.
MASTER = f"""
import os, sys
from tests.integration.producer_world import Player
from writebehind.producer import Client, ClientClosed

client = Client.open().start()
client.update(Player, 0, name="master")
workers = []
for number in range(1, {WORKERS} + 1):
    pid = os.fork()
    if pid:
        workers.append(pid)
        continue
    try:
        client.update(Player, number, name="with the master's client")
    except ClientClosed as error:
        os.write(1, f"{{error}}\\n".encode())  # at once: another worker writes too
    with Client.open() as own:
        own.update(Player, number, name=f"worker {{number}}")
    os._exit(0)
for pid in workers:
    assert os.waitpid(pid, 0)[1] == 0, "a worker failed"
client.update(Player, 99, name="master")
assert client.close().clean
"""


def test_a_client_from_before_a_fork_is_refused_and_one_from_after_it_works(writebehind_isolated: Isolation) -> None:
    with world(writebehind_isolated, [Player]) as here:
        done = subprocess.run(
            [sys.executable, "-c", MASTER],
            cwd=ROOT,
            env={**os.environ, **here.env_of("producer")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        refusals = [line for line in done.stdout.splitlines() if "before the process was forked" in line]
        assert len(refusals) == WORKERS
        names = {key: row[4 + 1] for key, row in here.records(Player)}
        assert names == {"0": "master", "1": "worker 1", "2": "worker 2", "99": "master"}
