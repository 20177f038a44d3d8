"""A network that reads handwritten digits, small enough to run inside a transaction."""
