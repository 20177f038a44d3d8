"""The miner: a process of its own that executes jobs and draws tickets from their products. Never imports the node."""

from hyperdust.miner.config import MinerConfig
from hyperdust.miner.role import run_miner

__all__ = ["MinerConfig", "run_miner"]
