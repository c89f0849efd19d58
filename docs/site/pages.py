"""Texts of the repository that are pages too, or parts of pages: each has one home, and the site shows it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Files of the root that are pages under their own names.
WHOLE = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

# A line `<!-- README: Heading -->` stands for a section of README; `<!-- README -->` for what is before the first one;
# `<!-- file: PATH -->` for a file, also within a code block.
_INCLUDE = re.compile(r"^<!-- README(?:: (?P<heading>.+?))? -->$", re.MULTILINE)
_FILE = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)
_PICTURE = re.compile(r"^!\[(?P<alt>[^\]]+)\]\((?P<path>[^)]+\.svg)\)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~)")


def included(markdown: str, page: str, pages: Collection[str]) -> str:
    """A page with README's sections in the place of their directives. Raises LookupError for one that is not there."""
    readme = dict(sections((ROOT / "README.md").read_text()))
    found = [match["heading"] or "" for match in _INCLUDE.finditer(markdown)]
    if missing := [heading for heading in found if heading not in readme]:
        raise LookupError(f"{page}: README has no section {missing[0]!r}")

    def text(match: re.Match[str]) -> str:
        heading = match["heading"]
        body = readme[heading or ""].strip()
        return relinked(f"## {heading}\n\n{body}" if heading else body, page, pages, shown=found)

    return _FILE.sub(lambda match: (ROOT / match[1]).read_text().strip(), _INCLUDE.sub(text, markdown))


def sections(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a file between its headings of the second level, by heading; what is before the first as ''."""
    heading, lines, fenced = "", list[str](), False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        if not fenced and line.startswith("## "):
            yield heading, "\n".join(lines)
            heading, lines = line[3:].strip(), []
        elif fenced or not line.startswith("# "):
            lines.append(line)
    yield heading, "\n".join(lines)


def relinked(text: str, page: str, pages: Collection[str], shown: Collection[str] | None = None) -> str:
    """Links of a file of the root, as seen from `page`; those to files that are no page become their text.

    shown: headings of README that the page has; a link to another one becomes its text as well.
    """
    anchors = None if shown is None else {anchor(heading) for heading in shown}

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target:
            return match[0]
        path, _, place = target.partition("#")
        if not path:
            return match[0] if anchors is None or place in anchors else match["text"]
        path = path.removeprefix("docs/")
        if path not in pages:
            return match["text"]
        there = posixpath.relpath(path, posixpath.dirname(page) or ".")
        return f"[{match['text']}]({there}{'#' + place if place else ''})"

    return _LINK.sub(link, text)


def anchor(heading: str) -> str:
    """The id of a heading."""
    return re.sub(r"[^\w]+", "-", heading.lower()).strip("-")


def inlined(markdown: str) -> str:
    """Pictures that are drawn in SVG and stand alone become part of the page: so they have its colours."""

    def svg(match: re.Match[str]) -> str:
        drawing = (ROOT / "docs" / match["path"].removeprefix("docs/").removeprefix("../")).read_text()
        drawing = re.sub(r"<\?xml.*?\?>|<!--.*?-->", "", drawing, flags=re.DOTALL).strip()
        return f'<figure class="drawing" markdown="0">{drawing}</figure>'

    return _PICTURE.sub(svg, markdown)
