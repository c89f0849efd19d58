"""`python -m writebehind.embedded up`: the same as `writebehind stack up`."""

from writebehind.embedded.cli import app

app(prog_name="python -m writebehind.embedded")
