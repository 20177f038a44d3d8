"""Bitcoin's main network: thousands of real headers, every retarget since 2009, stale blocks, inclusion proofs."""

import csv
import io
import tarfile
from pathlib import Path

import pytest

from bridge.checkpoint import Checkpoint
from bridge.errors import ForkTooDeep, UnknownParentHeader, WrongMerkleRoot
from bridge.header_batch import try_batch
from bridge.header_chain import HeaderChain
from bridge.headers import HEADER_BYTES, Context, Header, check_header, required_version
from bridge.inclusion import PartialTree, check_txout_proof, compute_branch_root
from bridge.params import MAIN, RETARGET_BLOCKS
from bridge.work import check_target, compute_retarget, compute_work, sha256d, target_to_compact

VECTORS = Path(__file__).parents[2] / ".." / "shared" / "vectors" / "bitcoin_headers.tar.xz"
NOW = 1_710_000_000  # after the last header
FIRST = 822_528
START = FIRST + 10  # the first header with ten known before it
TIP = 830_592


@pytest.fixture(scope="module")
def files():
    if not VECTORS.exists():
        pytest.skip(f"../shared/vectors/{VECTORS.name} is absent")
    with tarfile.open(VECTORS) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        return {member.name.removeprefix("./"): archive.extractfile(member).read() for member in members}


@pytest.fixture(scope="module")
def retargets(files):
    """Height -> header, cumulative work: the first and last header of every period."""
    rows = csv.DictReader(io.StringIO(files["retarget_headers.csv"].decode()))
    return {int(row["height"]): (bytes.fromhex(row["header_hex"]), int(row["chainwork_hex"], 16)) for row in rows}


@pytest.fixture(scope="module")
def recent(files):
    return files[f"headers_{FIRST}_{TIP}.bin"]


@pytest.fixture
def chain(recent, retargets):
    """Starts at START, holds no more."""
    header, first = at(recent, START), at(recent, FIRST)
    work = retargets[FIRST][1] + 10 * compute_work(check_target(MAIN, Header.decode(first).bits))
    stamps = tuple(Header.decode(at(recent, height)).timestamp for height in range(FIRST, START))
    return HeaderChain(MAIN, Checkpoint(START, header, first, work, stamps))


def at(recent, height):
    return recent[(height - FIRST) * HEADER_BYTES :][:HEADER_BYTES]


def between(recent, first, last):
    return recent[(first - FIRST) * HEADER_BYTES : (last + 1 - FIRST) * HEADER_BYTES]


def test_the_first_period(files, retargets):
    raw = files["headers_0_2016.bin"]
    chain = HeaderChain(MAIN)
    update = chain.extend(raw, NOW)
    assert (update.added, update.height, update.reorganisation) == (2016, 2016, None)
    for height in (0, 2015, 2016):
        block_hash = chain.hash_at(height)
        assert (chain.raw_header(block_hash), chain.work_of(block_hash)) == retargets[height]


def test_one_by_one_gives_the_same(files):
    raw = files["headers_0_2016.bin"]
    whole, single = HeaderChain(MAIN), HeaderChain(MAIN)
    whole.extend(raw, NOW)
    for start in range(0, len(raw), HEADER_BYTES):
        single.extend(raw[start : start + HEADER_BYTES], NOW)
    assert single.encode() == whole.encode()
    assert single.context_after(single.tip) == whole.context_after(whole.tip)


def test_four_recent_periods(chain, recent, retargets):
    update = chain.extend(between(recent, START, TIP), NOW)
    assert (update.added, update.height) == (TIP - START, TIP)
    known = [height for height in retargets if START <= height <= TIP]
    assert len(known) == 8
    for height in known:
        block_hash = chain.hash_at(height)
        assert (chain.raw_header(block_hash), chain.work_of(block_hash)) == retargets[height]
        assert chain.height_of(block_hash) == height
    assert HeaderChain.decode(MAIN, chain.encode()).encode() == chain.encode()


def test_every_retarget_since_2009(retargets):
    """Bits follow from the first and last header of each period; work is the sum over it; each keeps its target."""
    periods = range(0, max(retargets) - RETARGET_BLOCKS + 1, RETARGET_BLOCKS)
    assert len(periods) == 413
    for height in periods:
        (first_raw, first_work) = retargets[height]
        (last_raw, last_work) = retargets[height + RETARGET_BLOCKS - 1]
        (next_raw, next_work) = retargets[height + RETARGET_BLOCKS]
        first, last, following = (Header.decode(raw) for raw in (first_raw, last_raw, next_raw))
        assert first.bits == last.bits
        assert following.parent_hash == last.hash
        assert following.bits == compute_retarget(MAIN, last.bits, last.timestamp - first.timestamp)
        target = check_target(MAIN, first.bits)
        assert target_to_compact(target) == first.bits
        work = compute_work(target)
        assert last_work - first_work == (RETARGET_BLOCKS - 1) * work
        assert next_work - last_work == compute_work(check_target(MAIN, following.bits))
        for raw in (first_raw, last_raw):
            assert int.from_bytes(sha256d(raw), "little") <= target
        assert first.version >= required_version(MAIN, height)


def test_fast_and_plain_rules_agree_on_real_headers(chain, recent):
    context = chain.context_after(chain.tip)
    window = between(recent, START + 1, START + 3000)
    fast = try_batch(MAIN, context, window, NOW)
    chain.extend(window, NOW)
    assert fast is not None
    assert fast.context == chain.context_after(chain.tip)
    plain = HeaderChain(MAIN, chain.checkpoint)
    for start in range(0, 300 * HEADER_BYTES, HEADER_BYTES):
        header, block_hash = check_header(MAIN, plain.context_after(plain.tip), window[start:][:HEADER_BYTES], NOW)
        plain.extend(header.encode(), NOW)
        assert block_hash == plain.tip == chain.hash_at(plain.height)


def test_any_later_header_starts_a_chain(chain, recent, retargets):
    chain.extend(between(recent, START, TIP), NOW)
    for height in (START + 1, 824_543, 824_544, 824_545, 826_000, TIP - 1):
        later = HeaderChain(MAIN, chain.checkpoint_at(chain.hash_at(height)))
        assert Checkpoint.decode_from(later.checkpoint.encode() + b"rest") == (later.checkpoint, b"rest")
        later.extend(between(recent, height + 1, TIP), NOW)
        assert (later.tip, later.work) == (chain.tip, retargets[TIP][1])
        assert later.context_after(later.tip) == chain.context_after(chain.tip)


def test_a_stale_block_stands_beside_the_chain(chain, recent, files):
    stale, height = files["stale/0823226.bin"], 823_226
    chain.extend(between(recent, START, height), NOW)
    update = chain.extend(stale, NOW)
    assert (update.added, update.tip, update.reorganisation) == (1, sha256d(at(recent, height)), None)
    assert chain.height_of(sha256d(stale)) == height
    assert (chain.confirmations(sha256d(stale)), chain.confirmations(update.tip)) == (0, 1)
    grown = chain.extend(between(recent, height + 1, height + 1), NOW)
    assert (grown.height, grown.reorganisation) == (height + 1, None)


def test_a_stale_block_seen_first_is_left_again(chain, recent, files):
    stale, height = files["stale/0823226.bin"], 823_226
    chain.extend(between(recent, START, height - 1), NOW)
    assert chain.extend(stale, NOW).tip == sha256d(stale)
    assert chain.extend(at(recent, height), NOW).tip == sha256d(stale)
    update = chain.extend(at(recent, height + 1), NOW)
    assert update.reorganisation is not None
    assert update.reorganisation.fork_height == height - 1
    assert update.reorganisation.depth == 1
    assert update.reorganisation.abandoned == (sha256d(stale),)
    assert update.reorganisation.adopted == (sha256d(at(recent, height)), sha256d(at(recent, height + 1)))


def test_a_stale_block_deep_below_is_refused(chain, recent, files):
    chain.extend(between(recent, START, TIP), NOW)
    with pytest.raises(ForkTooDeep):
        chain.extend(files["stale/0823226.bin"], NOW)


def test_the_other_stale_block_is_this_chains_own(chain, recent, files):
    """The file's 829,613 is the block that the 980 headers after it are built on."""
    assert files["stale/0829613.bin"] == at(recent, 829_613)
    with pytest.raises(UnknownParentHeader):
        chain.extend(files["stale/0829613.bin"], NOW)


def test_every_inclusion_proof(recent, files):
    """Whole answers of a real node: indices, root, our encoding, and a branch for each transaction."""
    names = sorted(name for name in files if name.startswith("txoutproof/"))
    assert len(names) >= 10
    for name in names:
        height, _, indices = Path(name).stem.partition("-")
        header = Header.decode(files[name][:HEADER_BYTES])
        if int(height) <= TIP:
            assert header.encode() == at(recent, int(height))
        else:  # above the row of headers, in the period of its last one
            assert header.bits == Header.decode(at(recent, TIP)).bits
            assert int.from_bytes(header.hash, "little") <= check_target(MAIN, header.bits)
        proven = check_txout_proof(files[name], header)
        assert [index for index, _ in proven.txids] == [int(index) for index in indices.split("_")]
        tree = PartialTree.decode(files[name][HEADER_BYTES:])
        assert header.encode() + tree.encode() == files[name]
        for (_, txid), branch in zip(proven.txids, proven.branches, strict=True):
            assert compute_branch_root(branch, txid) == header.merkle_root
        with pytest.raises(WrongMerkleRoot):
            check_txout_proof(files[name], Header.decode(at(recent, TIP)))
        other = header.encode()[:36] + bytes(32) + header.encode()[68:]
        with pytest.raises(WrongMerkleRoot):
            check_txout_proof(other + files[name][HEADER_BYTES:], Header.decode(other))


def test_a_context_says_what_the_rules_read(chain, recent):
    context = chain.context_after(chain.tip)
    assert isinstance(context, Context)
    assert context.height == START + 1
    assert len(context.timestamps) == 11
    stamps = sorted(Header.decode(at(recent, height)).timestamp for height in range(FIRST, START + 1))
    assert context.median_time_past == stamps[5]
