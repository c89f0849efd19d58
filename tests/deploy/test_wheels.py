"""The wheels that people install, built as the images build them: they hold all that a checkout has, and work alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.vocabulary import ROOT

MEMBERS: Final = ("shared", "producer", "flusher", "compose/embedded")
UV: Final = Path(sys.executable).with_name("uv")
#: Imports every module from where it was installed, and no other; then the command reads what it has in files.
ALL: Final = """
import importlib, pkgutil, sys
import writebehind
target = sys.argv[1]
writebehind.__path__ = [target + "/writebehind"]
modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(writebehind.__path__, "writebehind.")
           if not m.name.endswith("__main__")]
assert all(module.__file__.startswith(target) for module in modules)
print(len(modules))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    built: dict[str, Path] = {}
    for member in MEMBERS:
        before = set(folder.glob("*.whl"))
        uv("build", "--quiet", "--offline", "--wheel", "--out-dir", str(folder), member)
        (built[member],) = set(folder.glob("*.whl")) - before
    return built


def uv(*arguments: str) -> None:
    subprocess.run([UV, *arguments], cwd=ROOT, check=True, timeout=120)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_wheel_holds_every_file_of_its_package(wheels: dict[str, Path], member: str) -> None:
    source = ROOT / member / "src"
    files = {str(f.relative_to(source)) for f in source.rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    with zipfile.ZipFile(wheels[member]) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    assert packed == files
    assert any(name.endswith("/py.typed") for name in packed)


def test_what_was_installed_from_them_works_without_the_checkout(wheels: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "target"
    uv("pip", "install", "--quiet", "--offline", "--no-deps", "--target", str(target), *map(str, wheels.values()))
    env = {**os.environ, "PYTHONPATH": str(target)}

    def said(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=env, check=True, timeout=120, capture_output=True, text=True
        ).stdout

    assert int(said("-c", ALL, str(target))) > 200
    assert "flush" in said("-m", "writebehind.flusher", "--help")
    assert (target / "bin" / "writebehind").is_file()
