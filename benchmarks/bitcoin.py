"""How fast Bitcoin headers are checked, by every rule, against a library that parses and checks work and links alone.

On real headers of the main network (../shared/vectors), rounds interleaved, the best of each counts.
"""

import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.skip import Skipped
from bridge.checkpoint import Checkpoint
from bridge.header_chain import HeaderChain
from bridge.headers import HEADER_BYTES, Header, split_headers
from bridge.params import MAIN

Row = dict[str, object]
VECTORS = Path(__file__).parents[1] / ".." / "shared" / "vectors" / "bitcoin_headers.tar.xz"
FIRST, START, TIP = 822_528, 822_538, 830_592
NOW = 1_710_000_000
ROUNDS = 20


def real_headers() -> list[bytes]:
    if not VECTORS.exists():
        raise Skipped(f"../shared/vectors/{VECTORS.name} is absent")
    with tarfile.open(VECTORS) as archive:
        for member in archive:
            if member.name.endswith(f"headers_{FIRST}_{TIP}.bin"):
                file = archive.extractfile(member)
                assert file is not None
                return split_headers(file.read())
    raise Skipped(f"{VECTORS.name} holds no headers_{FIRST}_{TIP}.bin")


def load_bitcoinlib() -> Callable[[list[bytes]], None]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("BCL_DATA_DIR", folder)  # else it writes into the home folder when imported
        try:
            from bitcoinlib.blocks import Block  # noqa: PLC0415 - a peer, never a dependency
            from bitcoinlib.networks import Network  # noqa: PLC0415 - likewise
        except ImportError as error:
            raise Skipped("bitcoinlib is not installed; pip install bitcoinlib==0.7.10") from error
    network = Network("bitcoin")  # shared: looking it up for each block would cost another tenth

    def check(rows: list[bytes]) -> None:
        parent = None
        for row in rows:
            block = Block.parse_bytes(row, network=network)
            assert block.check_proof_of_work()
            assert parent is None or block.prev_block == parent
            parent = block.block_hash

    return check


def headers_vs_bitcoinlib() -> Row:
    """8,054 headers across four retargets: ours are in the chain afterwards, with cumulative work."""
    peer = load_bitcoinlib()
    headers = real_headers()
    before, start, rest = headers[: START - FIRST], headers[START - FIRST], headers[START - FIRST + 1 :]
    stamps = tuple(Header.decode(raw).timestamp for raw in before)
    checkpoint = Checkpoint(START, start, headers[0], 1 << 95, stamps)
    joined, padded = b"".join(rest), [raw + b"\x00" for raw in rest]  # the peer wants a count of transactions
    assert len(joined) == (TIP - START) * HEADER_BYTES

    def ours() -> None:
        assert HeaderChain(MAIN, checkpoint).extend(joined, NOW).height == TIP

    best_ours = best_peer = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        ours()
        middle = time.perf_counter()
        peer(padded)
        end = time.perf_counter()
        best_ours, best_peer = min(best_ours, middle - begin), min(best_peer, end - middle)
    speed, peer_speed = len(rest) / best_ours, len(rest) / best_peer
    return {
        "name": "headers_vs_bitcoinlib",
        "ours": speed,
        "peer": peer_speed,
        "ratio": speed / peer_speed,
        "unit": "headers/s",
        "peer_name": "bitcoinlib 0.7.10: parse, hash, proof of work, parent; no retarget, median time, version, work",
    }


BENCHMARKS = {"headers_vs_bitcoinlib": headers_vs_bitcoinlib}
