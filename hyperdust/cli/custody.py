"""Commands of those who hold the vault: show, key, propose, sign, submit; and the council's emergency."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdust.cli.asking import (
    bitcoin_options,
    bridging,
)
from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinRpc,
    BitcoinUser,
    Json,
    Keystore,
    PasswordFile,
    Rpc,
    UsageFault,
    emit,
    group,
    read_password,
)

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hyperdust.bridging.following import Sources
    from hyperdust.bridging.papers import RescuePaper
    from hyperdust.bridging.terms import Terms

Paper = Annotated[Path, typer.Argument(metavar="FILE", help="The file that is passed around.")]
DevKey = Annotated[str | None, typer.Option("--key", metavar="HEX", help="Plain private key, on a devnet only.")]
Yes = Annotated[bool, typer.Option("--yes", help="Sign without a question.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    custody = group("Who holds the vault: shown, changed by k of the signers, brought back by the council.")
    custody.command("show")(show)
    custody.command("key")(show_key)
    custody.command("propose")(propose)
    custody.command("sign")(sign)
    custody.command("submit")(submit)
    custody.command("emergency")(emergency)
    app.add_typer(custody, name="custody")


def show(rpc: Rpc = DEFAULT_RPC, as_json: Json = False) -> None:
    """Who holds the vault, who is announced and from when on, and the clocks of refresh and emergency.

    Examples:
      hyperdust custody show
      hyperdust custody show --json
    """
    from hyperdust.bridging.rotation import describe_custody, show_custody

    with bridging(rpc, None) as (_, terms):
        emit(show_custody(terms), as_json=as_json, text=describe_custody(terms))


def show_key(
    keystore: Keystore = None,
    key: DevKey = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """The public key that a signer set lists, of a keystore.

    Examples:
      hyperdust custody key --keystore signer.json
    """
    from hyperdust.bridging.papers import public_key

    public = public_key(_account(rpc, keystore, key, password_file)).hex()
    emit({"key": "0x" + public}, as_json=as_json, text=public)


def propose(
    paper: Paper,
    replace: Annotated[
        str | None, typer.Option("--replace", metavar="OLD=NEW", help="A signer's key goes, another comes.")
    ] = None,
    add: Annotated[str | None, typer.Option("--add", metavar="KEY", help="A signer joins.")] = None,
    remove: Annotated[str | None, typer.Option("--remove", metavar="KEY", help="A signer leaves.")] = None,
    threshold: Annotated[int | None, typer.Option("--threshold", min=1, metavar="K", help="How many sign.")] = None,
    council_replace: Annotated[
        str | None, typer.Option("--council-replace", metavar="OLD=NEW", help="The same for the council.")
    ] = None,
    council_threshold: Annotated[
        int | None, typer.Option("--council-threshold", min=1, metavar="K", help="The same for the council.")
    ] = None,
    group_key: Annotated[
        str | None, typer.Option("--group-key", metavar="KEY", help="The signers' common key, made by a ceremony.")
    ] = None,
    no_group_key: Annotated[
        bool, typer.Option("--no-group-key", help="No common key; default: BIP-327's aggregate of all.")
    ] = False,
    take_back: Annotated[bool, typer.Option("--take-back", help="The present set: what is announced ends.")] = False,
    by_council: Annotated[
        bool, typer.Option("--by-council", help="By the council, once the vault has lain still; with --signers.")
    ] = False,
    signers: Annotated[
        str, typer.Option("--signers", metavar="KEY,…", help="All signers anew: for the council alone.")
    ] = "",
    valid_blocks: Annotated[
        int, typer.Option("--valid-blocks", min=1, help="Bitcoin blocks from now in which it can be handed in.")
    ] = 1_008,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Write an announcement of other signers to a file: k of the present ones sign it, then it is handed in.

    Examples:
      hyperdust custody propose change.json --replace 21e7e452=4f3c…
      hyperdust custody propose change.json --add 4f3c… --threshold 3
      hyperdust custody propose back.json --take-back
      hyperdust custody propose rescue.json --by-council --signers 4f3c…,8d02…,c61e… --threshold 2
    """
    from hyperdust.bridging.papers import AnnouncementPaper, check_announcement, create_paper
    from hyperdust.bridging.rotation import Change, describe_change
    from hyperdust.bridging.rotation import propose as make

    keys = tuple(one.strip() for one in signers.split(",") if one.strip())
    if by_council != bool(keys):
        raise UsageFault("--by-council goes with --signers KEY,…: the council names all of them anew")
    if no_group_key and group_key is not None:
        raise UsageFault("--group-key and --no-group-key do not go together")
    change = Change(
        _pair("--replace", replace), add, remove, threshold, _pair("--council-replace", council_replace),
        council_threshold, keys, group_key, not no_group_key, by_council, take_back,
    )  # fmt: skip
    if change == Change(shares_key=not no_group_key):
        raise UsageFault("nothing is to change; give --replace OLD=NEW, --add KEY, --remove KEY or another")
    with bridging(rpc, None) as (_, terms):
        made = AnnouncementPaper(terms.chain_id, make(terms, change, valid_blocks))
        deciders = check_announcement(terms, made)
        create_paper(paper, made)
        lines = describe_change(terms.state, made.announcement)
    who = "the council" if by_council else "the present signers"
    lines.append(f"{paper}: {deciders.threshold} of {len(deciders.keys)} of {who} sign it")
    lines.append(f"hyperdust custody sign {paper} --keystore FILE")
    emit(made.as_json() | {"file": str(paper)}, as_json=as_json, text="\n".join(lines))


def sign(
    paper: Paper,
    keystore: Keystore = None,
    key: DevKey = None,
    password_file: PasswordFile = None,
    yes: Yes = False,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Add one signature to an announcement, after showing what it changes.

    Examples:
      hyperdust custody sign change.json --keystore signer.json
    """
    from hyperdust.bridging.papers import check_announcement, count_signed, keep_paper, load_announcement
    from hyperdust.bridging.papers import sign_announcement as add_signature
    from hyperdust.bridging.rotation import describe_change

    found = load_announcement(paper)
    with bridging(rpc, None) as (_, terms):
        deciders = check_announcement(terms, found)
        print("\n".join(describe_change(terms.state, found.announcement)), file=sys.stderr)
        _ask(yes=yes)
        signed = add_signature(terms, found, _account_on(terms.chain_id, keystore, key, password_file))
    keep_paper(paper, signed)
    count = count_signed(signed, deciders, signed.digest)
    text = f"{count} of {deciders.threshold} signatures in {paper}"
    if count >= deciders.threshold:
        text += f"\nhyperdust custody submit {paper}"
    emit(signed.as_json(), as_json=as_json, text=text)


def submit(paper: Paper, rpc: Rpc = DEFAULT_RPC, as_json: Json = False) -> None:
    """Check an announcement with its signatures and hand it to the node; the next block takes it in.

    Examples:
      hyperdust custody submit change.json
    """
    from hyperdust.bridging.papers import complete_announcement, load_announcement

    found = load_announcement(paper)
    with bridging(rpc, None) as (sources, terms):
        item = complete_announcement(terms, found)
        identifier = sources.client.call("hyperdust_submitEvidence", "0x" + item.hex())
        rules, epoch = terms.rules, found.announcement.epoch
    text = f"handed in as {identifier}: a block takes it in"
    if found.announcement.by_council:
        text += f"\nonce that block is final: hyperdust custody emergency FILE --build, for epoch {epoch}"
    else:
        text += f"; epoch {epoch} may hold the vault {rules.notice_blocks} Bitcoin blocks after that"
    text += "\nhyperdust custody show"
    emit({"id": identifier, "epoch": epoch, "raw": "0x" + item.hex()}, as_json=as_json, text=text)


def emergency(
    paper: Paper,
    build: Annotated[bool, typer.Option("--build", help="Write the file: the same for all who build it.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Send it, once k have signed.")] = False,
    fee_rate: Annotated[
        float | None,
        typer.Option("--fee-rate", min=1, metavar="SAT/VB", help="With --build. Default: what bitcoind estimates."),
    ] = None,
    keystore: Keystore = None,
    key: DevKey = None,
    password_file: PasswordFile = None,
    yes: Yes = False,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """The council's spend: all of the vault to those whom it has named (`propose --by-council`), signed as a file.

    With neither --build nor --send it adds a signature.

    Examples:
      hyperdust custody emergency spend.json --build --fee-rate 5
      hyperdust custody emergency spend.json --keystore council.json
      hyperdust custody emergency spend.json --send --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie FILE
    """
    from hyperdust.bridging import papers

    if build and send:
        raise UsageFault("--build, then signatures, then --send: one at a time")
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options if build or send else None) as (sources, terms):
        if build:
            made, text = _build(sources, terms, fee_rate)
            papers.create_paper(paper, made)
            answer = made.as_json()
        elif send:
            answer, text = _send(sources, terms, papers.load_rescue(paper))
        else:
            found = papers.load_rescue(paper)
            rescue = papers.check_rescue(terms, found)
            print(_describe(terms, found), file=sys.stderr)
            _ask(yes=yes)
            signed = papers.sign_rescue(terms, found, _account_on(terms.chain_id, keystore, key, password_file))
            papers.keep_paper(paper, signed)
            count = papers.count_signed(signed, rescue.council, rescue.sighash)
            answer, text = signed.as_json(), f"{count} of {rescue.council.threshold} signatures in {paper}"
    emit(answer, as_json=as_json, text=text)


def _build(sources: "Sources", terms: "Terms", fee_rate: float | None) -> tuple["RescuePaper", str]:
    from hyperdust.bridging.papers import RescuePaper, plan_rescue
    from hyperdust.bridging.reclaim import read_rate

    if fee_rate is not None:
        rate = int(fee_rate * 1_000)
    elif sources.bitcoin is not None:
        rate = read_rate(sources.bitcoin)
    else:
        raise UsageFault("a bitcoind estimates the fee; name yours with --bitcoin-rpc URL, or give --fee-rate")
    made = RescuePaper(terms.chain_id, rate, plan_rescue(terms, rate).transaction.txid)
    return made, _describe(terms, made)


def _describe(terms: "Terms", paper: "RescuePaper") -> str:
    from bridge.work import show_hash
    from hyperdust.bridging.addresses import show_sats
    from hyperdust.bridging.papers import check_rescue

    rescue, named = check_rescue(terms, paper), terms.state.rescuers[-1]
    keys = ", ".join(one.hex()[:16] + "…" for one in named.signers.keys)
    return (
        f"{show_hash(rescue.transaction.txid)}: all of the vault, {show_sats(rescue.transaction.outputs[0].sats)}, to "
        f"epoch {named.epoch}: {named.signers.threshold} of {keys}; fee {rescue.fee} sats\n"
        f"{rescue.council.threshold} of {len(rescue.council.keys)} of the council sign it"
    )


def _send(sources: "Sources", terms: "Terms", paper: "RescuePaper") -> tuple[dict[str, object], str]:
    from bridge.work import show_hash
    from hyperdust.bridging.errors import PaperRefused
    from hyperdust.bridging.papers import check_final, complete_rescue

    signed = complete_rescue(terms, paper)
    if sources.bitcoin is None:
        raise UsageFault("a bitcoind is needed to send it; name yours with --bitcoin-rpc URL")
    check_final(sources.client, terms)
    raw = signed.encode()
    if (reason := sources.bitcoin.refusal_of(raw)) is not None:
        raise PaperRefused(f"bitcoind refuses it: {reason}; too early, or another transaction spends the vault")
    txid = show_hash(sources.bitcoin.send_raw_transaction(raw))
    text = (
        f"sent as {txid}; the signers of epoch {terms.state.rescuers[-1].epoch} show it to the chain once it is mined"
    )
    return {"txid": txid, "raw": raw.hex()}, text


def _pair(option: str, text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    old, between, new = text.partition("=")
    if not (old and between and new):
        raise UsageFault(f"{option} {text!r}: OLD=NEW is expected, two public keys")
    return old, new


def _ask(*, yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        typer.confirm("Sign this?", abort=True, err=True)


def _account(rpc: str, keystore: Path | None, key: str | None, password_file: Path | None) -> "LocalAccount":
    """A keystore's account needs no node; a plain key is for devnets, and the node says whether this is one."""
    from hyperdust.rpc_client import RpcClient

    if key is None:
        return _account_on(0, keystore, None, password_file)
    with RpcClient(rpc) as client:
        return _account_on(client.quantity("eth_chainId"), keystore, key, password_file)


def _account_on(chain_id: int, keystore: Path | None, key: str | None, password_file: Path | None) -> "LocalAccount":
    from hyperdust.wallet import load_account

    if keystore is None and key is None:
        raise UsageFault("whose signature? give --keystore FILE (`hyperdust wallet new` makes one)")
    return load_account(chain_id, keystore, key, lambda: read_password(password_file))
