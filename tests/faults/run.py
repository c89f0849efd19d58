"""A fault run: servers, flushers behind proxies and workloads are started, faults come by a plan, promises are checked.

`python -m tests.faults.run --seconds 300 --seed 7` prints the plan, a timeline and the findings, and ends in one line
of JSON. The exit code is 1 when a promise was broken or a planted bug was not caught, 2 when the run could not be
carried out, and 3 when no promise was broken but something took too long or did not come about, so that the run proves
nothing; with `--tries` it is then repeated under another seed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from tests.faults import report
from tests.faults.course import Course, Options
from tests.faults.crew import Crew
from tests.faults.fleet import fleet
from tests.faults.mount import mounted, move_table
from tests.faults.report import Result
from tests.faults.schedule import VARIANTS, Planned, plan
from tests.faults.stage import Stage
from tests.faults.world import ROOT, world
from writebehind.embedded import EmbeddedError
from writebehind.embedded.supervisor import Supervisor

WHOLE_S: Final = 300.0  # long enough for every kind of fault
PROVES_NOTHING: Final = 3
REPORTS: Final = ROOT / ".cache" / "faults"


def main() -> int:
    """Run, as often as it takes, and say by the exit code what came of it."""
    args = _arguments()
    signal.signal(signal.SIGTERM, _end)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    code = PROVES_NOTHING
    for left in reversed(range(args.tries)):
        code = _once(args, seed)
        if code != PROVES_NOTHING:
            break
        print(f"no promise was broken, but the run proves nothing{'; once more' * (left > 0)}", file=sys.stderr)
        seed += 1
    return code


def _once(args: argparse.Namespace, seed: int) -> int:
    """One run, printed. Gives the exit code."""
    began = time.monotonic()
    planned = plan(seed, args.seconds, families=args.only)
    folder: Path = args.report or REPORTS / f"seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def say(text: str) -> None:
        if not args.json:
            print(text, flush=True)

    say(f"seed {seed}, {args.seconds:g} s, {len(planned)} faults; report and histories: {folder}")
    for fault in planned:
        say(f"  {fault}")
    with ExitStack() as beside:
        # Virtual time does not mind what else there is to do: it gets what the run leaves.
        simulation = None if args.no_bugs else beside.enter_context(_planting("simulation.planted", "nice"))
        try:
            whole = not args.only and args.seconds >= WHOLE_S
            result = run(Options(seed, args.seconds, args.poison, folder, whole, args.secured), planned, say)
        except EmbeddedError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for line in report.text(result):
            say(line)
        if simulation is not None:
            say("planting bugs")
            result.planted_bugs_caught, amiss = _planted(simulation, beside.enter_context(_planting("hunt")))
            for what in amiss:
                say(f"  amiss: {what}")
    report.write(result, folder)
    say(f"page: {folder / 'report.html'}")
    print(json.dumps(result.line()), flush=True)
    print(f"seed {seed}, took {time.monotonic() - began:.0f} s", file=sys.stderr)
    if result.violations or not result.every_bug_caught:
        return 1
    return PROVES_NOTHING if result.problems else 0


@contextmanager
def _planting(module: str, *how: str) -> Iterator[subprocess.Popen[str]]:
    """Planting bugs into the simulation, or into real runs, in a process that ends with the body."""
    command = [*how, sys.executable, "-m", f"tests.faults.{module}", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _planted(*runs: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """Whether the checkers find what is wrong, as "caught/planted", and what they did not, or found without cause."""
    caught = planted = 0
    amiss: list[str] = []
    for process in runs:
        said, trouble = process.communicate()
        if process.returncode not in (0, 1) or not said:
            return "planting bugs could not run", trouble.strip().splitlines()[-1:]
        result = json.loads(said.splitlines()[-1])
        of_module = result["planted_bugs_caught"].split("/")
        caught, planted = caught + int(of_module[0]), planted + int(of_module[1])
        amiss += result["amiss"]
    return f"{caught}/{planted}", amiss


def run(options: Options, planned: Sequence[Planned], say: Callable[[str], None]) -> Result:
    """The whole run. Whatever was started is ended when this returns or raises."""
    with (
        mounted() as mount,
        world(options.folder, secured=options.secured) as servers,
        _supervisor() as supervisor,
    ):
        if mount is not None:
            move_table(servers, mount)
        with fleet(supervisor, servers, options.folder) as flushers:
            crew = Crew(supervisor, servers, options.folder)
            course = Course(options, Stage(servers, flushers, crew, mount), supervisor, say)
            return course.run(planned)


@contextmanager
def _supervisor() -> Iterator[Supervisor]:
    """Ends what it started, also when this process is killed."""
    supervisor = Supervisor()
    try:
        yield supervisor
    finally:
        supervisor.close()


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _arguments() -> argparse.Namespace:
    families = sorted({variant.family for variant in VARIANTS}, key=lambda family: int(family[1:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=WHOLE_S, help="how long faults come, in seconds (300)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to have its plan again")
    parser.add_argument("--only", nargs="*", default=(), choices=families, help="faults of these families only")
    parser.add_argument("--poison", type=float, default=0.05, help="share of graded writes the table refuses (0.05)")
    parser.add_argument("--secured", action="store_true", help="services and flushers come as their roles, over TLS")
    parser.add_argument("--no-bugs", action="store_true", help="plant none in the end, to be done sooner")
    parser.add_argument("--tries", type=int, default=1, help="runs at most, until one proves something (1)")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--report", type=Path, help="folder of report and histories (.cache/faults/seed-SEED)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
