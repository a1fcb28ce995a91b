"""`python -m ravine`: the command line."""

from ravine.cli import app

if __name__ == "__main__":
    app(prog_name="ravine")
