"""`python -m hyperdust.cli`: how the supervisor starts roles."""

from hyperdust.cli.app import main

main()
