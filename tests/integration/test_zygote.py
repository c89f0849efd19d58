"""A command that is a fork of the zygote cannot tell itself from one that was started, nor can who waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.flusher_process import ROOT, TIMEOUT_S, wait_until
from tests.zygote import Popen

SELF = """
import faulthandler, json, os, signal, sys, threading
signals = {n: str(signal.getsignal(n)) for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP)}
files = [n for n in range(100) if os.path.exists(f"/proc/self/fd/{n}")]
print(json.dumps({
    "arguments": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ), "files": files,
    "session": os.getsid(0) == os.getpgid(0) == os.getpid(), "signals": signals, "threads": threading.active_count(),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "faults": faulthandler.is_enabled(),
    "said": sys.stdin.read(),
}))
"""
WAITS = "import signal; signal.pause()"


@pytest.mark.parametrize("session", [False, True])
def test_it_has_what_it_was_given_and_nothing_else(session: bool, tmp_path: Path) -> None:
    def seen(kind: Any) -> Any:
        env = {"LC_ALL": "C.UTF-8", "SOME": "thing"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with kind([sys.executable, "-c", SELF, "-a"], cwd=tmp_path, env=env, start_new_session=session, **pipes) as one:
            out, _ = one.communicate("hello", timeout=TIMEOUT_S)
        return json.loads(out)

    with Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE) as other:  # whose files it must not have
        try:
            assert seen(Popen) == seen(subprocess.Popen)
        finally:
            other.kill()


@pytest.mark.parametrize(
    "program",
    [
        "",
        "1/0",
        "raise SystemExit(300)",
        "import sys; sys.exit('why')",
        "raise KeyboardInterrupt",
        "import os; os._exit(5)",
        "import os; os.abort()",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.close(1); print()",
        "import atexit, os; atexit.register(os._exit, 7)",
        "import os, threading, time; threading.Thread(target=lambda: (time.sleep(0.01), os._exit(8))).start()",
    ],
)
def test_it_ends_as_python_does(program: str) -> None:
    def end(kind: Any) -> int | None:
        with kind([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as one:
            one.wait(TIMEOUT_S)
        return int(one.returncode)

    assert end(Popen) == end(subprocess.Popen)


def test_who_waits_for_it_can_give_up_and_end_it() -> None:
    with Popen([sys.executable, "-c", WAITS]) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.terminate()
        assert process.wait(TIMEOUT_S) == process.poll() == -signal.SIGTERM


def test_commands_end_with_the_tests_although_these_were_killed() -> None:
    tests = f"""
import sys
from tests.zygote import Popen
process = Popen([sys.executable, "-c", {WAITS!r}], start_new_session=True)
print(process.pid, flush=True)
sys.stdin.read()
"""
    line = [sys.executable, "-c", tests]
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        command = int(process.stdout.readline())
        os.kill(command, 0)
        process.kill()
        try:
            wait_until(lambda: not Path(f"/proc/{command}").exists(), "the command to end")
        finally:
            with suppress(ProcessLookupError):
                os.kill(command, signal.SIGKILL)
