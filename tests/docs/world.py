"""Where a page's blocks run: a folder, a corner of real servers, bash, and a flusher when the page starts one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from writebehind.embedded import Isolation, Stack
from writebehind.embedded.isolation import ExistingServers

from .page import Step, steps

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
TOOLS = ("writebehind", "python", "psql", "pg_dump", "pg_restore", "redis-cli", "kafka-topics")
SECONDS = 20 if "DOCS_WRITE" in os.environ else 120  # for anything to come true; nothing is expected within a time

# Blocks that only look are run again until they show what the page shows: what they look at happens beside them.
_LOOKS = re.compile(
    r"(writebehind (status|whereis|letters (list|show)|progress show|audit|check|explain|grants)\b(?!.*--apply)"
    r"|python read.py|psql \S+ -c [\"']SELECT |curl |tail |grep )"
)
_BOOKKEEPING = re.compile(r"\bwritebehind\.(?=(progress|letter|audit_run|audit_finding|slot|tombstone)\b)")
_TOPIC = re.compile(r"\bwritebehind\.(?=[a-z]+(\.dlq)?\b)(?!producer|flusher|shared|embedded)")
_NO_MATTER: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z| UTC)?", "TIME"),
        (r"\b\d\d:\d\d:\d\d\b", "TIME"),
        (r"\b1[789]\d{14}\b", "VERSION"),
        (r"\b[\w.-]+:\d{2,7}(?=[\s,|│]|$)", "PROCESS"),
        (r"\b\w+@[\w.-]+", "PERSON"),
        (r"\b(?=[\w-]*\d)[A-Za-z0-9_-]{22}(?![\w-])", "ID"),
        (r"\b\d+(\.\d+)?( ?)(ms|s|min)\b", "LONG"),
        (r"[─━┏┓┗┛┡┩┳┻╇┴┬┼├┤└┘┌┐╭╮╰╯-]{2,}", "-"),
        (r"\baudit \d+:", "audit N:"),
        (r"[ \t]+", " "),
        (r"(?<=PROCESS │ )[\d,]+(?= │)", "LONG"),  # since when a flusher has a partition
    )
]


class Failed(AssertionError):
    """A block did not do what its page says."""


class World:
    """One page's. Everything that it started is ended by `close`."""

    def __init__(self, corner: Isolation, stack: Stack | ExistingServers, folder: Path, zygote: str) -> None:
        self._corner = corner
        self._servers = (
            {"cache": stack.valkey, "broker": stack.kafka, "database": stack.postgres}
            if isinstance(stack, Stack)
            else {}
        )
        self._folder = folder
        self._processes = folder / ".processes"  # a file for each that runs, named by its process id
        self._processes.mkdir()
        commands = folder / ".bin"
        commands.mkdir()
        for tool in TOOLS:
            (commands / tool).symlink_to(HERE / "shim.py")
        self._env = {
            **corner.env,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "HOME": str(folder),
            "WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6",  # of one that was killed, the least that the broker takes
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "DOCS_ZYGOTE": zygote,
            "DOCS_PROCESSES": str(self._processes),
            "DOCS_SCHEMAS": f"{corner.schema},{corner.bookkeeping_schema}",
        }
        (folder / ".state").touch()

    def run(self, path: Path) -> dict[int, str]:
        """Do what a page says. Gives what its blocks printed, by the line of the shown output. Raises Failed."""
        printed: dict[int, str] = {}
        for step in steps(path):
            if step.not_run:
                continue
            match step.kind:
                case "given":
                    self.run(HERE / f"{step.text}.md")
                case "do":
                    self._do(*step.text.split())
                case "file":
                    file = self._folder / step.title
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(step.text)
                case "python" | "sh":
                    output = self._block(path, step)
                    if step.output is not None:
                        printed[step.output_line] = output
                case _:
                    raise Failed(f"{path.name}:{step.line}: a block that is not run says why: <!-- not run: REASON -->")
        return printed

    def close(self) -> None:
        """End processes, and have every server run again."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for file in self._processes.iterdir():
                try:
                    os.kill(int(file.name), number)
                except ProcessLookupError:
                    file.unlink(missing_ok=True)
            _until(lambda: not list(self._processes.iterdir()), 30)
        for server in self._servers.values():
            if not server.running:
                server.start()

    def _do(self, verb: str, name: str) -> None:
        server = self._servers[name]
        {"kill": server.kill, "start": server.start}[verb]()

    def _block(self, path: Path, step: Step) -> str:
        """Run a block, again and again while it only looks and does not show what it should. Gives what it printed."""
        commands = [line for line in step.text.replace("\\\n", " ").splitlines() if line.strip()]
        looks = step.kind == "sh" and all(_LOOKS.match(line.strip()) for line in commands)
        deadline = time.monotonic() + SECONDS
        before, tries = "", 0
        while True:
            code, output = self._run(step)
            if code == step.exit_code and (step.output is None or _same(step.output, output)):
                return output
            # While pages are written a block has shown what it will when it shows it a second time.
            if (
                code == step.exit_code
                and "DOCS_WRITE" in os.environ
                and (not looks or before == _plain(output) or tries == 3)
            ):
                return output
            if not looks or time.monotonic() > deadline:
                errors = (self._folder / ".err").read_text()
                said = f"{path.name}:{step.line}: exit code {code}, and it printed\n{output}\nand as errors\n{errors}"
                raise Failed(said + ("" if step.output is None else f"\nwhere the page shows\n{step.output}"))
            before, tries = _plain(output), tries + 1
            time.sleep(2 if "DOCS_WRITE" in os.environ else 0.2)

    def _run(self, step: Step) -> tuple[int, str]:
        if step.kind == "python":
            (self._folder / ".script.py").write_text(step.text)
            return self.bash("python .script.py")
        return self.bash(step.text)

    def bash(self, text: str) -> tuple[int, str]:
        """Run a script, and give its exit code and standard output, with a deployment's usual names. Raises Failed."""
        text = _BOOKKEEPING.sub(f"{self._corner.bookkeeping_schema}.", text)
        text = _TOPIC.sub(self._corner.topic_prefix, text)
        text = text.replace("'wb:", f"'{self._corner.cache_prefix}:")
        # A block that goes on after `kill` may rely on what was killed being gone.
        kill = 'kill() { builtin kill "$@"; while grep -qxsr "${@: -1}" "$DOCS_PROCESSES"; do sleep 0.05; done; }'
        script = f"set -eo pipefail; . ./.state; trap 'export -p > .state' EXIT\n{kill}\n{text}"
        out, err = self._folder / ".out", self._folder / ".err"
        with out.open("wb") as file, err.open("wb") as log:
            bash = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=log,
            )
            try:
                code = bash.wait(SECONDS)
            except subprocess.TimeoutExpired:
                bash.kill()
                bash.wait()
                raise Failed(f"a block did not end:\n{text}\n{out.read_text()}\n{err.read_text()}") from None
        return code, self._usual(out.read_text())

    def _usual(self, text: str) -> str:
        """With the names that a deployment has by default, in the place of the corner's."""
        corner = self._corner
        for ours, usual in (
            (corner.topic_prefix, "writebehind."),
            (corner.bookkeeping_schema, "writebehind"),
            (corner.schema, "public"),
            (corner.cache_prefix, "wb"),
            (corner.group, "writebehind-flusher"),
            (str(self._folder), "."),
        ):
            text = text.replace(ours, usual)
        return text


def _same(shown: str, printed: str) -> bool:
    """Whether an output is the one shown, but for times, versions, processes and ids; `...` is any lines."""
    pattern = re.escape(_plain(shown)).replace(re.escape("\n...\n"), "\n(?:.*\n)*?")
    pattern = pattern.removeprefix(re.escape("...\n") if shown.startswith("...\n") else "")
    lead = "(?:.*\n)*?" if shown.startswith("...\n") else ""
    return re.fullmatch(lead + pattern, _plain(printed)) is not None


def _plain(text: str) -> str:
    for pattern, name in _NO_MATTER:
        text = pattern.sub(name, text)
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip(" -|"))


def _until(true: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while callable(true) and not true() and time.monotonic() < deadline:
        time.sleep(0.02)
