"""Ports of a devnet: which one serves what, and that nobody else listens there."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

from hyperdust.devnet_folder import DevnetError
from hyperdust.devnet_signers import FIRST_PORT


class PortTaken(DevnetError):
    """Another program listens on a port that the devnet needs."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port of a devnet follows from the first."""

    rpc: int
    with_explorer: bool = True
    with_bitcoin: bool = True
    signers: int = 0

    @property
    def named(self) -> Mapping[str, int]:
        """Ports in use, by what they serve."""
        node = {"rpc": self.rpc, "ws": self.rpc + 1, "work_grpc": self.rpc + 2, "metrics": self.rpc + 3}
        explorer = {"explorer": self.explorer} if self.with_explorer else {}
        bitcoin = {"bitcoin_rpc": self.bitcoin_rpc, "bitcoin_p2p": self.bitcoin_rpc + 1} if self.with_bitcoin else {}
        signers = {f"signer{index}": self.rpc + FIRST_PORT + index for index in range(self.signers)}
        return node | explorer | bitcoin | signers

    @property
    def explorer(self) -> int:
        """Port of the web pages, where they are served."""
        return self.rpc + 4

    @property
    def bitcoin_rpc(self) -> int:
        """Port of bitcoind's RPC, where there is one."""
        return self.rpc + 10


def check_ports(named: Mapping[str, int]) -> None:
    """See that nobody listens on the ports.

    Raises:
        PortTaken: names the port, and its owner where the system tells.
    """
    for what, port in named.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise PortTaken(
                    f"port {port} ({what}) is taken{_owner(port)}; stop that program, or choose other ports: "
                    f"hyperdust devnet --rpc-port {port + 1000 if port < 60_000 else port - 1000}"
                ) from error


def is_listening(port: int) -> bool:
    """Whether anybody answers on a port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # another user's: the system does not tell
    return ""
