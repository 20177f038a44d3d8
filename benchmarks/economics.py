"""What lying earns: each attack played many times with the contracts' own numbers, beside the formula that bounds it.

`python -m benchmarks.economics [--network main] [--write]` prints the tables of docs/economics.md. Money is in units of
what a job is worth to a liar (its net fee and what its credit may earn), so no price of BTC or DUST is assumed.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "economics.md"
START, END = "<!-- measured: from here -->", "<!-- to here -->"
GAMES: Final = 200_000
SAFETY: Final = 10  # JobMarket's: sampling * bond covers ten times what is open
BPS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a network's table fixes."""

    sampling: float
    """Probability that a job is checked."""
    companion_share: float
    """Of the net fee."""
    price_window: int
    """Blocks between two moves of the price of a credited MAC."""
    price: int
    """Wei per 10^9 MACs at the start."""
    price_floor: int

    @property
    def bond(self) -> float:
        """The least stake behind a job worth 1, when nothing else of its provider's is open."""
        return SAFETY / self.sampling


def load_numbers(network: str) -> Numbers:
    table = json.loads((ROOT / "genesis" / f"{network}.json").read_text())
    return Numbers(
        sampling=int(table["sampling_bps"]) / BPS,
        companion_share=int(table["companion_bps"]) / BPS,
        price_window=int(table["price_window_blocks"]),
        price=int(table["mac_price_wei"]),
        price_floor=int(table["min_mac_price_wei"]),
    )


Game = Callable[[random.Random], float]


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to cheat."""

    name: str
    game: Game
    """One round; what it earns beyond what honesty would have earned."""
    formula: float
    """The same, expected."""


def play(game: Game, seed: int) -> tuple[float, float]:
    """Mean and standard error over many rounds."""
    dice = random.Random(seed)
    results = [game(dice) for _ in range(GAMES)]
    mean = sum(results) / GAMES
    variance = sum((result - mean) ** 2 for result in results) / (GAMES - 1)
    return mean, (variance / GAMES) ** 0.5


def attacks(numbers: Numbers, cost: float) -> list[Attack]:
    """Every attack; `cost` is what executing costs, as a part of what a job is worth (below 1: else nobody works)."""
    p, bond, share = numbers.sampling, numbers.bond, numbers.companion_share

    def lie(caught: float) -> Attack:
        # Honest: 1 - cost. A lie: 1 unless caught; then nothing, and the bond is gone.
        return Attack("", lambda dice: cost if dice.random() >= caught else cost - 1 - bond, cost - caught * (1 + bond))

    def named(name: str, attack: Attack) -> Attack:
        return Attack(name, attack.game, attack.formula)

    found = [named("a provider makes up one result", lie(p))]
    many = 20
    each = 1 / many
    caught_once = 1 - (1 - p) ** many
    found.append(
        Attack(
            f"it makes up {many} at once, as much as its bond covers",
            lambda dice: cost - (each + bond if any(dice.random() < p for _ in range(many)) else 0),
            cost - caught_once * bond - caught_once * each,
        )
    )
    found += [
        named(f"colluding companions hold {part:.0%} of the list", lie(p * (1 - part)))
        for part in (0.1, 0.33, 0.5, 0.8)
    ]
    # A companion has the same stake behind a check as a provider behind a job, and `share` is its pay.
    found += [
        named("companions compute one check in five: a lie", lie(p / 5)),
        Attack("a companion does not compute, and has no root to reveal", lambda _: cost - share, cost - share),
        Attack("a companion accuses an honest provider", lambda _: -bond - share, -bond - share),
        Attack("a companion vouches for a trace that is shown to be false", lambda _: -bond - share, -bond - share),
        Attack("a provider withholds what it is asked for", lambda _: cost - 1 - bond, cost - 1 - bond),
        Attack("the right trace, another output", lambda _: -1 - bond, -1 - bond),
    ]
    return found


def grinding(numbers: Numbers, share: float, delay: int) -> float:
    """How often a miner with this share of the work, which puts its lies into its own blocks, is still checked.

    The beacon of block s + d comes from the ticket of block s + d - 1. With d = 1 that is the block with the lie, the
    liar's own: it keeps a ticket only if it is not drawn. With d = 2 it has to win the next block too.
    """
    own = 1.0 if delay == 1 else share
    return numbers.sampling * (1 - own)  # an own ticket that draws a check is thrown away


def extra_work(numbers: Numbers, jobs: int, seed: int) -> float:
    """MACs of companions over those of providers, jobs of every size, measured over a run."""
    dice = random.Random(seed)
    provided = checked = 0
    for _ in range(jobs):
        macs = dice.choice((10**9, 10**10, 10**11))
        provided += macs
        checked += macs if dice.random() < numbers.sampling else 0
    return 1 + checked / provided


@dataclass(slots=True)
class Market:
    """The price of a credited MAC under self-dealers, hour by hour, as JobMarket moves it."""

    numbers: Numbers
    worth: float
    """What credit for 10^9 MACs earns, in wei."""
    honest: float
    """Part of the blocks' difficulty that paying strangers' jobs credit."""

    def run(self, hours: int) -> tuple[float, float]:
        """Price at the end over the worth of credit, and mean credited MACs over the difficulty of the last quarter."""
        price, credited_late = self.numbers.price, []
        for hour in range(hours):
            # Self-dealers fill what is left as long as a credited MAC costs less than it earns.
            credited = 1.0 if price < self.worth else self.honest
            move = max(-0.125, min(0.125, (credited - 0.5) / 0.5 / 8))
            price = max(self.numbers.price_floor, int(price * (1 + move)))
            if hour >= hours * 3 // 4:
                credited_late.append(credited)
        return price / self.worth, sum(credited_late) / len(credited_late)


def tables(network: str) -> str:
    """The tables as Markdown."""
    numbers = load_numbers(network)
    share, stake = numbers.companion_share, numbers.bond
    lines = [
        f"`{network}`: sampling {numbers.sampling:.0%}, companion's share {share:.0%}, least stake {stake:,.0f} units.",
        "",
        "| attack | executing costs 10 % | 50 % | 90 % | formula at 90 % |",
        "|---|--:|--:|--:|--:|",
    ]
    by_cost = [attacks(numbers, cost) for cost in (0.1, 0.5, 0.9)]
    for row, cheap in enumerate(by_cost[0]):
        cells = []
        for column, found in enumerate(by_cost):
            mean, error = play(found[row].game, 1000 * row + column)
            cells.append(f"{mean:+.2f} ± {error:.2f}")
        lines.append(f"| {cheap.name} | {' | '.join(cells)} | {by_cost[2][row].formula:+.2f} |")
    lines += [
        "",
        "| a miner that draws again, share of the work | checked, beacon of block s + 1 | of s + 2 |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {share:.0%} | {grinding(numbers, share, 1):.2%} | {grinding(numbers, share, 2):.2%} |"
        for share in (0.05, 0.25, 0.5)
    ]
    lines += ["", "| strangers' jobs credit | price over worth of credit | credited over difficulty |", "|--:|--:|--:|"]
    for honest in (0.05, 0.25, 0.5):
        ratio, credited = Market(numbers, 50 * numbers.price, honest).run(2000)
        lines.append(f"| {honest:.0%} of the difficulty | {ratio:.2f} | {credited:.2f} |")
    lines += ["", f"Work of companions on top of providers': {extra_work(numbers, 100_000, 7):.3f} x."]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="main")
    parser.add_argument("--write", action="store_true", help="into docs/economics.md")
    arguments = parser.parse_args()
    text = tables(arguments.network)
    print(text)
    if arguments.write:
        page = PAGE.read_text()
        before, after = page.split(START)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
