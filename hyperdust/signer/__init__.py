"""A signer of the vault: a process of its own that proposes rounds, checks and signs those of others, follows them."""

from hyperdust.signer.config import SignerConfig
from hyperdust.signer.start import run_signer

__all__ = ["SignerConfig", "run_signer"]
