"""The web pages of a chain: a thin server (files, a read-only way to the node, a faucet), and pages that ask it."""
