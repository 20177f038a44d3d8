"""Commands of a person who bridges: deposit, withdraw, status, list, audit, reclaim, give-up."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdust.cli.asking import (
    bitcoin_options,
    bridging,
    devnet_purse,
)
from hyperdust.cli.giving import gift
from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinRpc,
    BitcoinUser,
    Json,
    Key,
    Keystore,
    PasswordFile,
    Rpc,
    UsageFault,
    check_login,
    emit,
    group,
    read_password,
)
from hyperdust.cli.publishing import publish_data

if TYPE_CHECKING:
    from bridge.deposits import Outpoint
    from hyperdust.bitcoind import Bitcoind
    from hyperdust.bridging.access import BitcoinOptions
    from hyperdust.bridging.deposit import Deposit
    from hyperdust.bridging.following import Sources
    from hyperdust.bridging.keeping import Kept

Btc = Annotated[str, typer.Option("--btc", metavar="X", help="How much, in BTC.")]
Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Deposit files. Default: your bridge folder.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most, with --wait.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    bridge = group("Bitcoin in and out.")
    bridge.command("deposit")(deposit)
    bridge.command("withdraw")(withdraw)
    bridge.command("status")(status)
    bridge.command("list")(list_deposits)
    bridge.command("audit")(audit)
    bridge.command("reclaim")(reclaim)
    bridge.command("give-up")(give_up)
    bridge.command("gift")(gift)
    bridge.command("publish-data")(publish_data)
    app.add_typer(bridge, name="bridge")


def deposit(
    btc: Btc,
    to: Annotated[str, typer.Option("--to", metavar="ADDR", help="Who gets it on the L2.")],
    max_fee: Annotated[
        int | None,
        typer.Option(
            "--max-fee", min=0, metavar="SATS", help="Most of it that goes to Bitcoin's fee. Default: chosen."
        ),
    ] = None,
    user_key: Annotated[
        str | None,
        typer.Option(
            "--user-key", metavar="HEX", help="Your own x-only public key for the way back. Default: a new one."
        ),
    ] = None,
    pay: Annotated[
        bool, typer.Option("--pay/--no-pay", help="On a devnet: pay from its own Bitcoin wallet, or only show.")
    ] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it is credited.")] = False,
    timeout: Timeout = 3600.0,
    folder: Folder = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Bring bitcoin in: an address of your own, to be paid from any wallet. On a devnet it is paid at once.

    Examples:
      hyperdust bridge deposit --btc 0.01 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
      hyperdust bridge deposit --btc 0.01 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --wait --json
      hyperdust bridge deposit --btc 0.01 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --no-pay --max-fee 5000
    """
    from hyperdust.bridging import deposit as making
    from hyperdust.bridging import following
    from hyperdust.bridging.addresses import draw_code, parse_sats, parse_user_key, show_sats
    from hyperdust.job import progress
    from hyperdust.paths import bridge_dir
    from hyperdust.wallet import parse_address

    sats, receiver = parse_sats(btc), parse_address(to)
    own_key = None if user_key is None else parse_user_key(user_key)
    place = folder or bridge_dir()
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms):
        purse = devnet_purse(sources, terms) if pay else None
        kept, path = making.prepare(terms, sats, receiver, max_fee, own_key, place)
        making.announce(sources.client, kept)
        made = making.Deposit(kept, path, making.pay(*purse, kept, place) if purse else None)
        if not as_json:
            if made.outpoint is None and sys.stdout.isatty():
                print(draw_code(made.link))
            print(_show_deposit(made, show_sats(sats)), flush=True)
        answer = made.as_json()
        if wait:
            with progress() as say:
                outpoint = made.outpoint or following.wait_payment(sources, kept, place, timeout, say)
                found = following.wait_deposit(sources, outpoint, kept, timeout, say)
            answer |= {"status": found.as_json(), "outpoint": found.id, "id": found.id}
    if as_json:
        emit(answer, as_json=True, text="")
    else:
        print(found.summary() if wait else f"hyperdust bridge status {made.id}")


def _show_deposit(made: "Deposit", amount: str) -> str:
    address, keep = made.kept.bitcoin_address, f"nobody sweeps it within {made.kept.reclaim_blocks} blocks"
    first = f"Pay {amount} to {address}" if made.outpoint is None else f"paid {amount} to {address} in {made.outpoint}"
    return f"{first}\n{made.link}\n{made.path}\nKeep that file: it takes the coin back where {keep}."


def withdraw(
    btc: Btc,
    to: Annotated[str, typer.Option("--to", metavar="BTC_ADDR", help="A Bitcoin address; it gets X less --max-fee.")],
    max_fee: Annotated[
        int | None,
        typer.Option("--max-fee", min=0, metavar="SATS", help="What Bitcoin's fee may take of it. Default: 3000."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it is paid.")] = False,
    timeout: Timeout = 3600.0,
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Take bitcoin out: burned here, paid to a Bitcoin address by the signers.

    Examples:
      hyperdust bridge withdraw --btc 0.005 --to bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080
      hyperdust bridge withdraw --btc 0.005 --to bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080 --max-fee 8000 --json
    """
    from hyperdust.bridging.addresses import parse_sats, show_sats
    from hyperdust.bridging.following import wait_withdrawal
    from hyperdust.bridging.withdraw import plan_withdrawal, send_withdrawal
    from hyperdust.job import progress
    from hyperdust.wallet import load_account

    sats = parse_sats(btc)
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms), progress() as say:
        plan = plan_withdrawal(terms, sats, to, max_fee)
        account = load_account(terms.chain_id, keystore, key, lambda: read_password(password_file))
        number, receipt = send_withdrawal(sources.client, account, plan)
        answer = {
            "id": number,
            "burned_sats": plan.sats,
            "sats": plan.paid_sats,
            "fee_sats": plan.max_fee,
            "to": to,
            "block": int(receipt["blockNumber"], 16),
            "transaction": receipt["transactionHash"],
        }
        text = f"withdrawal {number}: {show_sats(plan.sats)} burned in block {answer['block']}; {to} gets "
        text += f"{show_sats(plan.paid_sats)}\nhyperdust bridge status {number}"
        if wait:
            found = wait_withdrawal(sources, number, timeout, say)
            answer["status"] = found.as_json()
            text += f"\n{found.summary()}"
    emit(answer, as_json=as_json, text=text)


def status(
    which: Annotated[
        str, typer.Argument(metavar="ID", help="A withdrawal's number, a deposit's txid:n, or its address.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    timeout: Timeout = 3600.0,
    folder: Folder = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Where a deposit or a withdrawal stands: k of N confirmations, why it waits, about how long.

    Examples:
      hyperdust bridge status 0
      hyperdust bridge status 5f3b8d1c…e2:1 --json
      hyperdust bridge status bcrt1p… --wait
    """
    from hyperdust.bridging import following
    from hyperdust.bridging.deposit import announce
    from hyperdust.job import progress
    from hyperdust.paths import bridge_dir

    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms), progress() as say:
        if which.isdecimal():
            number = int(which)
            found = following.stand_withdrawal(sources, terms, number)
            if wait and not found.is_done:
                found = following.wait_withdrawal(sources, number, timeout, say)
        else:
            place = folder or bridge_dir()
            outpoint, kept = _find_deposit(sources, which, place)
            if outpoint is None and wait and kept is not None:
                outpoint = following.wait_payment(sources, kept, place, timeout, say)
            if outpoint is not None:
                found = following.stand_deposit(sources, terms, outpoint, kept)
            else:
                found = following.stand_unpaid(which, kept)
            if kept is not None and kept.chain_id == terms.chain_id and not found.is_swept:
                announce(sources.client, kept)  # again: nodes forget, and another one may be asked
            if wait and outpoint is not None and not found.is_done:
                found = following.wait_deposit(sources, outpoint, kept, timeout, say)
    emit(found.as_json(), as_json=as_json, text=found.summary())


def list_deposits(
    folder: Folder = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Deposits whose files are on this machine, and where each stands.

    Examples:
      hyperdust bridge list
      hyperdust bridge list --json
    """
    from hyperdust.bridging.addresses import show_sats
    from hyperdust.bridging.following import find_payments, stand_deposit
    from hyperdust.bridging.keeping import list_kept
    from hyperdust.paths import bridge_dir

    rows, lines = [], []
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms):
        for path, kept in list_kept(folder or bridge_dir()):
            if kept.chain_id != terms.chain_id:
                continue
            standings = [stand_deposit(sources, terms, at, kept) for at in find_payments(sources, kept)]
            rows.append(
                {
                    "address": kept.bitcoin_address,
                    "file": str(path),
                    "sats": kept.sats,
                    "to": "0x" + kept.binding.address.hex(),
                    "deposits": [one.as_json() for one in standings],
                }
            )
            lines.append(f"{kept.bitcoin_address}  {show_sats(kept.sats)}  {path}")
            lines += [f"  {one.summary()}" for one in standings] or ["  not paid, as far as is known here"]
    emit(
        rows, as_json=as_json, text="\n".join(lines) or "no deposits of this chain yet; see `hyperdust bridge deposit`"
    )


def audit(
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Whether the vault covers all BTC on the chain; with a bitcoind of yours, whether its coins are there.

    Examples:
      hyperdust bridge audit
      hyperdust bridge audit --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie ~/.bitcoin/.cookie --json
    """
    from hyperdust.bridging.auditing import run_audit, show_audit

    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms):
        found = run_audit(sources, terms)
    emit(found.as_json(), as_json=as_json, text=show_audit(found))
    if not found.ok:
        raise typer.Exit(1)


def reclaim(
    outpoint: Annotated[str, typer.Argument(metavar="OUTPOINT", help="The deposit: txid:n.")],
    to: Annotated[str, typer.Option("--to", metavar="BTC_ADDR", help="Where the coin goes.")],
    send: Annotated[bool, typer.Option("--send", help="Broadcast it; else it is only built and shown.")] = False,
    fee_rate: Annotated[
        float | None, typer.Option("--fee-rate", min=1, metavar="SAT/VB", help="Default: what bitcoind estimates.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", metavar="FILE", help="Secret key in hex, where you gave --user-key."),
    ] = None,
    folder: Folder = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Take a deposit back that nobody has swept for 1,008 blocks: by your key alone, with no node and no signer.

    Examples:
      hyperdust bridge reclaim 5f3b8d1c…e2:1 --to bc1q… --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie FILE
      hyperdust bridge reclaim 5f3b8d1c…e2:1 --to bc1q… --send --fee-rate 5
    """
    from hyperdust.bridging.addresses import show_sats
    from hyperdust.bridging.keeping import find, list_kept, read_secret
    from hyperdust.bridging.reclaim import build_reclaim, find_coin, read_rate, send_reclaim
    from hyperdust.paths import bridge_dir

    place = _parse_outpoint(outpoint)
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    secret = None if secret_file is None else read_secret(secret_file)
    with _own_bitcoin(rpc, options) as bitcoin:
        if len(networks := {kept.network for _, kept in list_kept(folder or bridge_dir())}) == 1:
            bitcoin.check_network(networks.pop())  # first: another network has no such coin, and that would frighten
        coin = find_coin(bitcoin, place)
        kept = find(folder or bridge_dir(), script=coin.output.script)
        bitcoin.check_network(kept.network)
        rate = read_rate(bitcoin) if fee_rate is None else int(fee_rate * 1_000)
        made = build_reclaim(kept, coin, to, rate, secret)
        sent = send_reclaim(bitcoin, made) if send else None
    waits = f"Bitcoin takes it in {made.waits} blocks" if made.waits else "Bitcoin takes it now; --send broadcasts it"
    text = f"{show_sats(made.sats)} to {to}, fee {made.fee} sats\n"
    text += f"{made.raw.hex()}\n{waits}" if sent is None else f"sent as {sent}"
    emit(made.as_json() | {"sent": sent is not None}, as_json=as_json, text=text)


def give_up(
    number: Annotated[int, typer.Argument(metavar="ID", min=0, help="The withdrawal's number.")],
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Ask for a queued withdrawal back: the refund comes once a payout has become impossible.

    Examples:
      hyperdust bridge give-up 3
      hyperdust bridge give-up 3 --keystore FILE --json
    """
    from hyperdust.bridging import withdraw as taking_out
    from hyperdust.wallet import load_account

    with bridging(rpc, None) as (sources, terms):
        account = load_account(terms.chain_id, keystore, key, lambda: read_password(password_file))
        receipt = taking_out.give_up(sources.client, account, number)
    block = int(receipt["blockNumber"], 16)
    emit(
        {"id": number, "block": block, "transaction": receipt["transactionHash"]},
        as_json=as_json,
        text=f"withdrawal {number} is given up in block {block}; hyperdust bridge status {number}",
    )


@contextmanager
def _own_bitcoin(rpc: str, options: "BitcoinOptions") -> Iterator["Bitcoind"]:
    """A bitcoind, without asking a node where one is named."""
    from hyperdust.bitcoind import Bitcoind, Login

    if options.rpc is not None:
        check_login(options.rpc, options.user, options.cookie)
        with Bitcoind(options.rpc, Login(options.user, options.password, options.cookie)) as bitcoin:
            yield bitcoin
        return
    with bridging(rpc, options) as (sources, _):
        if sources.bitcoin is None:
            raise UsageFault("a bitcoind is needed to see the coin; name yours with --bitcoin-rpc URL")
        yield sources.bitcoin


def _parse_outpoint(text: str) -> "Outpoint":
    from hyperdust.bridging.keeping import parse_outpoint

    try:
        return parse_outpoint(text)
    except ValueError as error:
        raise UsageFault(
            f"{text!r} is no deposit: txid:n is expected, as `hyperdust bridge deposit` prints it"
        ) from error


def _find_deposit(sources: "Sources", which: str, folder: Path) -> tuple["Outpoint | None", "Kept | None"]:
    """The payment that is meant, and the deposit's file where it is here; one of both at least."""
    from hyperdust.bridging.errors import NotOurs
    from hyperdust.bridging.following import find_payments
    from hyperdust.bridging.keeping import add_outpoint, find

    if ":" not in which:
        kept = find(folder, address=which)
        payments = find_payments(sources, kept)
        for one in payments:
            if one not in kept.outpoints:  # once it is swept, no bitcoind finds it by its address
                kept = add_outpoint(kept, one, folder)
        return payments[-1] if payments else None, kept
    place = _parse_outpoint(which)
    try:
        return place, find(folder, outpoint=place)
    except NotOurs:
        return place, None
