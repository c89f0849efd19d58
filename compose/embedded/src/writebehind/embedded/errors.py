"""The one error this package raises, with what a person needs to act on it."""

from __future__ import annotations


class EmbeddedError(Exception):
    """A server could not be installed, started or controlled; the text says which, why and what to do."""

    def __init__(
        self,
        problem: str,
        *,
        server: str | None = None,
        exit_code: int | None = None,
        log: str = "",
        advice: str = "",
    ) -> None:
        self.server = server
        self.exit_code = exit_code
        self.log = log
        self.advice = advice
        parts = [f"{server}: {problem}" if server else problem]
        if exit_code is not None:
            parts.append(f"exit code: {exit_code}")
        if log:
            parts.append("last log lines:\n" + "\n".join(f"  | {line}" for line in log.splitlines()))
        if advice:
            parts.append(f"what to do: {advice}")
        super().__init__("\n".join(parts))
