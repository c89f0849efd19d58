"""The documentation site: built strictly, from what the code says, and it fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from docs.site import api, pages, reference

from writebehind.flusher import triage
from writebehind.producer import CacheAside, Client, WriteBehind, WriteThrough
from writebehind.shared import telemetry
from writebehind.shared.settings_reference import variables

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return built


class Fetched(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.addresses.append(found.get("src") or "")
        elif tag == "link" and found.get("rel") != "canonical":
            self.addresses.append(found.get("href") or "")


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    read = list(site.rglob("*.html"))
    assert len(read) > 5
    for page in read:
        parser = Fetched()
        parser.feed(page.read_text())
        assert [a for a in parser.addresses if re.match(r"(\w+:)?//", a)] == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import\s+|url\()[\"']?(https?:)?//", sheet.read_text()), sheet.name


def test_a_drawing_loaded_from_a_network_is_not_used() -> None:
    """The theme would fetch mermaid when a page has such a block."""
    assert [page.name for page in (ROOT / "docs").rglob("*.md") if "```mermaid" in page.read_text()] == []


def test_the_reference_has_what_the_code_has(site: Path) -> None:
    def said(name: str) -> str:
        return (site / "reference" / f"{name}.html").read_text()

    assert [v.name for v in variables() if v.name not in said("settings")] == []
    assert [s.name for s in telemetry.FLUSHER if s.name not in said("metrics")] == []
    assert [code for code in triage.TABLE if f"<code>{code}</code>" not in said("sqlstates")] == []
    assert "__connect.errors.exception.message" in said("headers")
    strategies = {f.name for s in (WriteBehind, CacheAside, WriteThrough) for f in fields(s)}
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"loaded", "unloaded"}
    assert {"early_recompute_beta", "get_many"} <= strategies | methods
    assert [name for name in strategies if f"<code>{name}</code>" not in said("client")] == []
    assert [name for name in methods if f'<h3 id="{name}">' not in said("client")] == []
    assert "<code>PartlyFailed</code>" in said("client")
    for shown in ("letters replay", "stack up", "--keys-per-second"):
        assert shown in said("cli")


def test_a_parameter_that_there_is_not_is_an_error() -> None:
    def call(given: int) -> None:
        """Do it.

        gone: what it was told.
        """

    with pytest.raises(LookupError, match="gone"):
        api.Docstring.of(call, ["given"])


def test_an_option_that_is_not_told_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CacheAside, "__doc__", "Write the row.")
    with pytest.raises(LookupError, match="ttl_jitter"):
        reference.filled("<!-- reference: strategies -->")


def test_prometheus_names_are_the_exporters() -> None:
    page = reference.filled("<!-- reference: metrics -->")
    for name in (
        "writebehind_flusher_records_total",
        "writebehind_flusher_delay_seconds",
        "writebehind_flusher_stopped",
    ):
        assert f"`{name}`" in page


def test_the_first_page_is_the_readmes(site: Path) -> None:
    first = (site / "index.html").read_text()
    assert "A write that returned reaches the database" in first
    assert "<svg" in first
    assert "class Player" in re.sub(r"<[^>]+>", "", first)


def test_a_section_that_readme_no_longer_has_is_an_error() -> None:
    with pytest.raises(LookupError, match="Gone"):
        pages.included("<!-- README: Gone -->", "index.md", ())


def test_links_of_the_root_are_seen_from_the_page() -> None:
    there = ("ARCHITECTURE.md", "guides/audit.md")
    linked = pages.relinked("[a](ARCHITECTURE.md#x) [b](docs/guides/audit.md) [c](Makefile)", "explanation/p.md", there)
    assert linked == "[a](../ARCHITECTURE.md#x) [b](../guides/audit.md) c"


def test_headings_within_code_are_none() -> None:
    assert [heading for heading, _ in pages.sections("## a\n```\n## b\n```\n## c")] == ["", "a", "c"]
