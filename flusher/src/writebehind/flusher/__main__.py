"""`python -m writebehind.flusher`: the `writebehind` command."""

from .cli import main

main()
