"""The devnet's folder: its lock, its genesis file, starting over. Knows no processes."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from chain.errors import NodeFault
from chain.params import DEVNET_CHAIN_IDS
from hyperdust.durable import hold

TEMPLATE: Final = Path(__file__).resolve().parents[1] / "genesis" / "regtest.json"

_BLOCK_TIME_S: Final = 2


class DevnetError(NodeFault):
    """The devnet cannot start or go on; says why and what to do."""


def prepare_genesis(data_dir: Path, seed: int | None, block_time_s: int | None) -> Mapping[str, Any]:
    """The network's table: the folder's own, made at the first start and kept ever after.

    Raises:
        DevnetError: no template, a damaged file, or options that the kept chain was not made with.
    """
    path = data_dir / "genesis.json"
    if not path.exists():
        chosen = secrets.randbelow(len(DEVNET_CHAIN_IDS)) if seed is None else seed
        try:
            template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DevnetError(f"no genesis table for regtest: {error}; `make genesis` writes it") from error
        genesis = make_genesis(template, chosen, block_time_s or _BLOCK_TIME_S, int(time.time()))
        write_atomically(path, json.dumps(genesis, indent=2) + "\n")
        return genesis
    try:
        genesis = json.loads(path.read_text(encoding="utf-8"))
        chain_id, spacing_s = int(genesis["chain_id"]), int(genesis["spacing_s"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DevnetError(f"{path} is damaged ({error}); start over: hyperdust devnet --fresh") from error
    cure = "leave the option out, start over with --fresh, or choose another --data-dir"
    if seed is not None and chain_id != make_genesis({}, seed, 1, 0)["chain_id"]:
        raise DevnetError(f"the chain in {data_dir} has id {chain_id}, not that of --seed {seed}; {cure}")
    if block_time_s not in {None, spacing_s}:
        raise DevnetError(f"the chain in {data_dir} has a block every {spacing_s} s, not {block_time_s}; {cure}")
    return dict(genesis)


def make_genesis(template: Mapping[str, Any], seed: int, spacing_s: int, now: int) -> dict[str, Any]:
    """The devnet's own network: a chain id for each seed, so that wallets do not mistake one devnet for another."""
    return {
        **template,
        "chain_id": DEVNET_CHAIN_IDS.start + seed % len(DEVNET_CHAIN_IDS),
        "genesis_timestamp": now,
        "spacing_s": spacing_s,
    }


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Keep other devnets out of the folder.

    Raises:
        DevnetError: one is in it.
    """
    try:
        lock = hold(data_dir / "lock")
    except BlockingIOError as error:
        raise DevnetError(
            f"another devnet runs in {data_dir}; stop it, or choose another --data-dir and --rpc-port"
        ) from error
    with lock:
        yield


def wipe(data_dir: Path) -> None:
    """Delete what a devnet wrote, and only where one did."""
    if (data_dir / "genesis.json").exists():
        roles = (folder for kind in ("node", "miner", "companion", "signer") for folder in data_dir.glob(f"{kind}*"))
        for folder in (*roles, data_dir / "bitcoin", data_dir / "logs"):
            shutil.rmtree(folder, ignore_errors=True)
        (data_dir / "genesis.json").unlink()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file at once: a reader sees the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
