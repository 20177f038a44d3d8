"""What a benchmark raises when its peer or its machine is not there."""


class Skipped(Exception):
    """Not measured; says why."""
