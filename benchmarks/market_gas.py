"""Gas of every call of the job market, its bonds and its court, at the bounds of what they take: a table in Markdown.

`python benchmarks/market_gas.py` prints it; `--write` puts it into docs/spec/contracts.md. What the native call `judge`
costs is not in it: here it believes what it is told.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import encode
from eth_utils import keccak

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.unit.contracts.harness import BTC, Network, commit, register

SPEC: Final = Path(__file__).resolve().parents[1] / "docs" / "spec" / "contracts.md"
BEGIN: Final = "<!-- market_gas: begin -->"
END: Final = "<!-- market_gas: end -->"
JUDGE: Final = (0x4808).to_bytes(20, "big")
ROOT: Final = b"\5" * 32
OTHER_ROOT: Final = b"\6" * 32
DEPOSIT: Final = 10**13
FEE: Final = BTC // 100


def judge(data: bytes) -> bytes:
    """Every proof is one, every question is about the job, every answer fits."""
    words = {1: [1, 1, 0, 0, 0, 0, 0], 2: [int.from_bytes(keccak(data)), 0, 0, 0], 3: [1, 0, 0]}[data[0]]
    return bytes(encode(["uint256"] * len(words), words))


class Ledger:
    """Calls, and what each of them took of a transaction's gas."""

    def __init__(self) -> None:
        self.network: Any = Network(precompiles=((JUDGE, judge, 0, 0),))
        self.network.skip_to(100)
        self.graph = register(self.network)
        self.rows: list[tuple[str, int]] = []
        self.provider, self.companion, self.requester, self.challenger = (
            self.network.account(name) for name in ("provider", "companion", "requester", "challenger")
        )

    def note(self, label: str, call: Any, *arguments: Any, **options: Any) -> Any:
        """Make a call and keep its gas."""
        result = call(*arguments, **options)
        self.rows.append((label, self.network.gas_used))
        return result

    def submitted(self, root: bytes = ROOT) -> int:
        """A job that was submitted three blocks ago."""
        market = self.network.JobMarket
        until = self.network.number + 30
        job = market.request(self.graph, b"in", [100], until, self.provider, sender=self.requester, value=FEE)
        market.submit(job, b"out", commit(root, self.provider), sender=self.provider)
        self.network.mine(3)
        return int(job)


def measure() -> list[tuple[str, int]]:
    """Call everything once, in an order that makes sense."""
    ledger = Ledger()
    _bonds(ledger)
    _job(ledger)
    _dispute(ledger)
    _leave(ledger)
    return ledger.rows


def _bonds(ledger: Ledger) -> None:
    bonds = ledger.network.Bonds
    ledger.note("Bonds.deposit", bonds.deposit, sender=ledger.provider, value=10 * BTC)
    ledger.note("Bonds.serve", bonds.serve, ledger.graph, sender=ledger.provider)
    bonds.deposit(sender=ledger.companion, value=BTC)
    ledger.note("Bonds.serve_as_companion", bonds.serve_as_companion, ledger.graph, sender=ledger.companion)


def _job(ledger: Ledger) -> None:
    network, market, graph = ledger.network, ledger.network.JobMarket, ledger.graph
    provider, companion, requester = ledger.provider, ledger.companion, ledger.requester
    until, largest = network.number + 30, b"\7" * 16_384
    asked = {"sender": requester, "value": FEE}
    job = ledger.note(
        "JobMarket.request, 512 B of input", market.request, graph, b"\7" * 512, [100], until, provider, **asked
    )
    ledger.note("JobMarket.request, 16,384 B", market.request, graph, largest, [100], until, provider, **asked)
    declined = market.request(graph, b"in", [100], until, provider, **asked)
    ledger.note("JobMarket.decline", market.decline, declined, sender=provider)
    own = commit(ROOT, provider)
    ledger.note("JobMarket.submit, 768 B of output", market.submit, job, b"\7" * 768, own, sender=provider)
    ledger.note("JobMarket.submit, 8,192 B", market.submit, job + 1, b"\7" * 8_192, own, sender=provider)
    network.mine(3)
    ledger.note("JobMarket.commit", market.commit, job, commit(ROOT, companion), sender=companion)
    ledger.note("JobMarket.reveal", market.reveal, job, ROOT, sender=provider)
    ledger.note("JobMarket.companion_reveal, equal", market.companion_reveal, job, ROOT, sender=companion)
    network.mine(20)
    ledger.note("JobMarket.settle, with a companion", market.settle, job)
    network.mine(5)
    ledger.note("JobMarket.refund", market.refund, job + 1)


def _dispute(ledger: Ledger) -> None:
    network, market, court = ledger.network, ledger.network.JobMarket, ledger.network.Court
    provider, companion, challenger = ledger.provider, ledger.companion, ledger.challenger
    idle = ledger.submitted()
    market.commit(idle, commit(OTHER_ROOT, companion), sender=companion)
    asked = ledger.submitted()
    for job in (idle, asked):
        if market.check_of(job)[4] == 0:
            network.mine(8)
        market.reveal(job, ROOT, sender=provider)
    ledger.note("JobMarket.companion_reveal, other", market.companion_reveal, idle, OTHER_ROOT, sender=companion)
    for size in (512, 65_536):
        question = size.to_bytes(4, "big") * (size // 4)
        label = f"Court.demand, {size:,} B"
        number = ledger.note(label, court.demand, asked, question, sender=challenger, value=DEPOSIT)
        answer = b"\7" * (8_192 if size == 512 else 131_072 - 70_000)
        ledger.note(f"Court.answer, {len(answer):,} B to {size:,} B", court.answer, number, question, answer)
    network.mine(21)
    ledger.note("JobMarket.settle, companion refuted", market.settle, idle)
    for size in (16_384, 131_072):
        job = ledger.submitted()
        network.mine(8)
        market.reveal(job, ROOT, sender=provider)
        proof = b"\7" * size
        secret = keccak(encode(["bytes32", "address"], [keccak(proof), challenger]))
        ledger.note("Court.commit", court.commit, job, secret, sender=challenger)
        network.mine()
        ledger.note(f"Court.prove, {size:,} B", court.prove, job, proof, b"", sender=challenger)
        network.Bonds.deposit(sender=provider, value=10 * BTC)
        network.Bonds.serve(ledger.graph, sender=provider)
    job = ledger.submitted()
    network.mine(8)
    market.reveal(job, ROOT, sender=provider)
    number = court.demand(job, b"Q", sender=challenger, value=DEPOSIT)
    network.mine(21)
    ledger.note("Court.expire", court.expire, number)


def _leave(ledger: Ledger) -> None:
    network, bonds = ledger.network, ledger.network.Bonds
    ledger.note("Bonds.withdraw_owed", bonds.withdraw_owed, ledger.challenger)
    bonds.deposit(sender=ledger.companion, value=BTC)
    bonds.serve_as_companion(ledger.graph, sender=ledger.companion)
    ledger.note("Bonds.leave", bonds.leave, ledger.graph, sender=ledger.companion)
    ledger.note("Bonds.unbond", bonds.unbond, BTC, sender=ledger.companion)
    network.skip_to(network.number + 400)
    ledger.note("Bonds.withdraw", bonds.withdraw, sender=ledger.companion)


def table(rows: list[tuple[str, int]]) -> Iterator[str]:
    """The rows in Markdown, each call once."""
    yield "| call | gas |"
    yield "|---|---:|"
    for label, gas in dict(rows).items():
        yield f"| `{label.split(',')[0]}`{label[len(label.split(',')[0]) :]} | {gas:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/spec/contracts.md")
    text = "\n".join(table(measure()))
    if not parser.parse_args().write:
        print(text)
        return
    spec = SPEC.read_text(encoding="utf-8")
    before, rest = spec.split(BEGIN)
    SPEC.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
