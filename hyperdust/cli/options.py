"""What every command shares: options, the configuration file, answers on stdout, errors on stderr."""

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.errors import HyperdustError

Rpc = Annotated[str, typer.Option("--rpc", metavar="URL", help="JSON-RPC of the node to ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Keystore = Annotated[Path | None, typer.Option("--keystore", metavar="FILE", help="Encrypted key that signs.")]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="HEX", help="Plain private key, on a devnet only; default there: account 0."),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="First line is the keystore's password. Else HYPERDUST_PASSWORD, else a prompt.",
    ),
]
BitcoinRpc = Annotated[
    str | None,
    typer.Option("--bitcoin-rpc", metavar="URL", help="Your own bitcoind. Default: that of a devnet on this machine."),
]
BitcoinUser = Annotated[str, typer.Option("--bitcoin-user", help="Its rpcuser.")]
BitcoinPassword = Annotated[
    str, typer.Option("--bitcoin-password", help="Its rpcpassword; better: HYPERDUST_BITCOIN_PASSWORD.")
]
BitcoinCookie = Annotated[
    Path | None, typer.Option("--bitcoin-cookie", metavar="FILE", help="Its cookie file, instead of both.")
]
DEFAULT_RPC = "http://127.0.0.1:8545"


class UsageFault(HyperdustError):
    """Options that do not go together, or a file that cannot be read."""


def check_login(bitcoin_rpc: str | None, user: str, cookie: Path | None) -> None:
    """Refuse a bitcoind without a way in.

    Raises:
        UsageFault
    """
    if bitcoin_rpc is not None and cookie is None and not user:
        raise UsageFault("--bitcoin-rpc needs --bitcoin-cookie FILE, or --bitcoin-user and --bitcoin-password")


def group(summary: str) -> typer.Typer:
    """A command with commands below."""
    return typer.Typer(help=summary, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def emit(answer: object, *, as_json: bool, text: str) -> None:
    """Print the answer on stdout, for programs or for people."""
    print(json.dumps(answer) if as_json else text)


def read_password(password_file: Path | None, *, confirm: bool = False) -> str:
    """Password of a keystore: file, environment, or prompt on a terminal.

    Raises:
        UsageFault: there is none and nobody to ask.
    """
    if password_file is not None:
        return password_file.read_text(encoding="utf-8").partition("\n")[0]
    if (password := os.environ.get("HYPERDUST_PASSWORD")) is not None:
        return password
    if not sys.stdin.isatty():
        raise UsageFault("a password is needed; set HYPERDUST_PASSWORD, or give --password-file FILE")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))


def read_config(path: Path) -> dict[str, Any]:
    """Defaults of options from a TOML file; names may use `-` or `_`.

    Raises:
        UsageFault: not a readable TOML file.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageFault(f"--config {path}: {error}") from error
    return content


def defaults_of(content: Mapping[str, Any], command: tuple[str, ...]) -> dict[str, Any]:
    """A command's defaults: the file's top level, then its own table (`[devnet]`, `[job.ask]`)."""
    table: Mapping[str, Any] = content
    defaults: dict[str, Any] = {}
    for name in ("", *command):
        inner = table if not name else table.get(name, {})
        if not isinstance(inner, Mapping):
            break
        table = inner
        defaults |= {key.replace("_", "-"): value for key, value in table.items() if not isinstance(value, Mapping)}
    return defaults
