"""The companion: a process of its own that executes jobs once more, and proves it where a provider computed falsely."""

from hyperdust.companion.config import ChallengeConfig, CompanionConfig
from hyperdust.companion.role import run_challenge, run_companion

__all__ = ["ChallengeConfig", "CompanionConfig", "run_challenge", "run_companion"]
