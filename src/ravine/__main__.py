"""`python -m ravine`: the command line."""

from ravine.cli import main

main()
