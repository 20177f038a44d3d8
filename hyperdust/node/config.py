"""What a node is told at start: one validated value."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Port = Annotated[int, Field(ge=1, le=65_535)]


class NodeConfig(BaseModel):
    """Options of `hyperdust node`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path
    """Folder of the database and of keys; made where it is missing."""
    genesis: str = "regtest"
    """A network's name, or the path of a genesis file."""
    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told."""
    rpc_port: Port = 8545
    """JSON-RPC over HTTP."""
    ws_port: Port = 8546
    """JSON-RPC over WebSocket."""
    work_grpc_port: Port = 8547
    """Work API for miners."""
    metrics_port: Port = 8548
    """Prometheus."""
    block_time_s: Annotated[int, Field(ge=1)] | None = None
    """Hold blocks this many seconds apart, by policy of the builder (devnet)."""
    archive: bool = False
    """Keep the state of every block."""
    import_file: Path | None = None
    """Test-only: a chain file of a foreign Ethereum chain, whose genesis file `genesis` names."""
    sync_from: Literal["bitcoin"] | None = None
    """Rebuild the chain from there before serving; None: go on with what the database has."""
    sync_start_height: Annotated[int, Field(ge=0)] = 0
    """The Bitcoin block from which on there may be data of this chain."""
    bitcoin_rpc: str | None = None
    """URL of a bitcoind's JSON-RPC; None: the node follows no Bitcoin."""
    bitcoin_user: str = ""
    """Its rpcuser."""
    bitcoin_password: SecretStr = SecretStr("")
    """Its rpcpassword."""
    bitcoin_cookie: Path | None = None
    """Its cookie file, instead of both."""
    dev: bool = False
    """Serve the debug namespace."""
