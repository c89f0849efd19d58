"""What MkDocs calls: pages that come from the code or from files of the root, and README's parts within pages."""

from __future__ import annotations

from docs.site import pages, reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for name in pages.WHOLE:
        files.append(File.generated(config, name, content=(pages.ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # named by MkDocs
    """A page as it is rendered."""
    there = {file.src_uri for file in files}
    if page.file.src_uri in pages.WHOLE:
        return pages.relinked(markdown, page.file.src_uri, there)
    return pages.inlined(pages.included(reference.filled(markdown), page.file.src_uri, there))
