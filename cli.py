"""The command line from a checkout: `python cli.py prune ...` is `slimnet prune ...`."""

from slimnet.cli import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
