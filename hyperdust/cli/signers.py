"""The command of those who hold the vault: signer runs until it is stopped."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

from pathlib import Path
from typing import Annotated

import typer

from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinUser,
    Keystore,
    PasswordFile,
    Rpc,
    UsageFault,
    check_login,
    read_password,
)
from hyperdust.cli.roles import Form, Level, follow_supervisor, wait_for_chain_id
from hyperdust.logging import LogFormat, LogLevel

DevKey = Annotated[str | None, typer.Option("--key", metavar="HEX", help="Plain private key, on a devnet only.")]
Rate = Annotated[int, typer.Option("--max-rate", min=1_000, help="Sat per 1,000 vB that it signs for at most.")]


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(signer)


def signer(
    bitcoin_rpc: Annotated[str, typer.Option("--bitcoin-rpc", metavar="URL", help="Your own bitcoind, txindex=1.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where other signers reach this one.")
    ] = "127.0.0.1:8565",
    peers: Annotated[
        str, typer.Option("--peers", metavar="HOST:PORT,…", help="The other signers, with commas between.")
    ] = "",
    rpc: Rpc = DEFAULT_RPC,
    genesis: Annotated[str, typer.Option("--genesis", help="A network's name, or a genesis file.")] = "regtest",
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    keystore: Keystore = None,
    key: DevKey = None,
    password_file: PasswordFile = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Folder of the protection file. It belongs to the key: never lose it."),
    ] = None,
    round_blocks: Annotated[
        int, typer.Option("--round-blocks", min=1, help="Bitcoin blocks between two rounds, at least.")
    ] = 6,
    bump_blocks: Annotated[
        int, typer.Option("--bump-blocks", min=1, help="Bitcoin blocks before a round is paid for better.")
    ] = 3,
    deposit_depth: Annotated[
        int, typer.Option("--deposit-depth", min=1, help="Confirmations of a deposit before it is swept.")
    ] = 6,
    data_depth: Annotated[
        int, typer.Option("--data-depth", min=1, help="Confirmations of published blocks before an anchor names them.")
    ] = 6,
    max_rate: Rate = 500_000,
    fallback_rate: Annotated[
        int, typer.Option("--fallback-rate", min=1_000, help="Sat per 1,000 vB where bitcoind cannot tell.")
    ] = 5_000,
    poll: Annotated[float, typer.Option("--poll", min=0.1, help="Seconds between two looks.")] = 10.0,
    log_level: Level = LogLevel.INFO,
    log_format: Form = LogFormat.CONSOLE,
) -> None:
    """A signer of the vault: sweeps deposits, pays withdrawals, anchors; k of n sign, each by its own sources.

    Needs a node and a bitcoind of its own, and a key that stands in the network's signer set.

    Examples:
      hyperdust signer --keystore signer.json --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie ~/.bitcoin/.cookie \
          --genesis main --listen 10.0.0.1:8565 --peers 10.0.0.2:8565,10.0.0.3:8565
    """
    from hyperdust.bitcoind import Login
    from hyperdust.logging import set_up
    from hyperdust.paths import state_dir
    from hyperdust.rpc_client import RpcClient
    from hyperdust.signer import SignerConfig, run_signer
    from hyperdust.signer.rebuild import Limits
    from hyperdust.wallet import load_account

    follow_supervisor()
    set_up(log_level, log_format)
    if keystore is None and key is None:
        raise UsageFault("a signer needs its own key; give --keystore FILE (`hyperdust wallet new` makes one)")
    check_login(bitcoin_rpc, bitcoin_user, bitcoin_cookie)
    with RpcClient(rpc) as client:
        account = load_account(wait_for_chain_id(client), keystore, key, lambda: read_password(password_file))
    run_signer(
        SignerConfig(
            account=account,
            rpc=rpc,
            bitcoin_rpc=bitcoin_rpc,
            login=Login(bitcoin_user, bitcoin_password, bitcoin_cookie),
            listen=listen,
            peers=tuple(one.strip() for one in peers.split(",") if one.strip()),
            genesis=genesis,
            data_dir=data_dir or state_dir() / "signer",
            limits=Limits(
                deposit_depth=deposit_depth,
                data_depth=data_depth,
                max_rate=max_rate,
                fallback_rate=fallback_rate,
                round_blocks=round_blocks,
                bump_blocks=bump_blocks,
            ),
            poll_s=poll,
        )
    )
