"""The command line: what a person types."""

from hyperdust.cli.app import main

__all__ = ["main"]
