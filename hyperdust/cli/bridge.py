"""Bitcoin in and out: deposit, withdraw, give-up. What looks, reclaims, gives and publishes is beside it."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdust.cli.asking import Folder, Timeout, bitcoin_options, bridging, devnet_purse
from hyperdust.cli.giving import gift
from hyperdust.cli.looking import audit, list_deposits, status
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
    emit,
    group,
    read_password,
)
from hyperdust.cli.publishing import publish_data
from hyperdust.cli.reclaiming import reclaim

if TYPE_CHECKING:
    from hyperdust.bridging.deposit import Deposit

Btc = Annotated[str, typer.Option("--btc", metavar="X", help="How much, in BTC.")]


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
