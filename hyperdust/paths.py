"""Where a person's files lie: the XDG folders."""

import os
from pathlib import Path


def state_dir() -> Path:
    """Chains and logs: kept across restarts, not worth a backup."""
    return _folder("XDG_STATE_HOME", ".local/state")


def keystore_dir() -> Path:
    """Encrypted keys: worth a backup."""
    return _folder("XDG_DATA_HOME", ".local/share") / "keystore"


def bridge_dir() -> Path:
    """Deposit files, with the keys that take unswept deposits back: worth a backup."""
    return _folder("XDG_DATA_HOME", ".local/share") / "bridge"


def _folder(variable: str, default: str) -> Path:
    base = os.environ.get(variable, "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / default) / "hyperdust"
