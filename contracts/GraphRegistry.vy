# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title GraphRegistry: the hypergraphs that jobs may name
@license GPL-3.0-or-later
@notice Keeps the top layer of each graph, whose hash is its id, the weights that may be mined, its multiply-accumulates
        (MACs) as polynomials in its symbols, and who gets royalties. All facts are read from the graph file by a
        native call that checks the whole graph, so that anyone may register and nobody is believed. A file that is too
        large for a transaction comes in parts: whose `register` begins it owns the graph, anybody may `add` the rest.
@dev A predeploy: runtime code without a constructor. Source: protocol.md, Jobs, The ticket, Agents (lineage).
"""

SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
GRAPH_FACTS: constant(address) = 0x0000000000000000000000000000000000004809

FILE_MAX: constant(uint256) = 65536  # of a part; what Vyper keeps room for in memory costs gas, whatever comes
TOP_LAYER_MAX: constant(uint256) = 24565
CALL_MAX: constant(uint256) = 90112  # 2 + 4, a top layer, a part
FACTS_MAX: constant(uint256) = 38912  # 8 * 32, a name, 4 symbols, 256 operands, 2 * 16 terms: 38,624 at most
# Code that answers with the bytes behind it. As init code it deploys them: twice before a top layer, it keeps that.
KEEPER: constant(Bytes[11]) = x"600b380380600b5f395ff3"
GENERATIONS: constant(uint256) = 3
ROYALTY_MAX: constant(uint256) = 1500  # basis points of a fee for one owner
ROYALTIES_MAX: constant(uint256) = 3000  # for all of them
SCAN_VERSION: constant(uint8) = 2  # of the encoding: a top layer with a scan
TOKEN_SIZE: constant(uint256) = 4  # bytes that a scan's step adds to its output


struct Operand:
    operator: uint32
    root: bytes32
    k: uint32
    n: uint32


struct Term:
    coefficient: uint128
    exponents: uint8[4]


struct Symbol:
    low: uint32
    high: uint32


struct Facts:
    graph: bytes32
    name: String[64]
    symbols: DynArray[Symbol, 4]
    end: uint32
    subgraphs: uint32
    operands: DynArray[Operand, 256]
    macs: DynArray[Term, 16]
    mining_macs: DynArray[Term, 16]


struct Weights:
    root: bytes32
    shape: uint256  # k << 32 | n


event Announced:
    owner: indexed(address)
    commitment: bytes32


event Added:
    graph: indexed(bytes32)
    end: uint256
    subgraphs: uint256


event Registered:
    graph: indexed(bytes32)
    owner: indexed(address)
    name: String[64]


event LineageSet:
    graph: indexed(bytes32)
    parent: indexed(bytes32)
    bps: uint256


# One slot.
struct Lineage:
    number: uint64  # graphs registered before this one, plus one
    bps: uint64
    is_set: bool


graph_count: public(uint256)
graph_at: public(HashMap[uint256, bytes32])
owner_of: public(HashMap[bytes32, address])
name_of: public(HashMap[bytes32, String[64]])
parent_of: public(HashMap[bytes32, bytes32])
announced_at: public(HashMap[bytes32, uint256])
begun_by: public(HashMap[bytes32, address])  # of a graph that came in parts
next_subgraph: public(HashMap[bytes32, uint256])
_lineage: HashMap[bytes32, Lineage]
_top_layers: HashMap[bytes32, address]
_symbols: HashMap[bytes32, DynArray[Symbol, 4]]
_operands: HashMap[bytes32, HashMap[uint32, Weights]]
_macs: HashMap[bytes32, DynArray[Term, 16]]
_mining_macs: HashMap[bytes32, DynArray[Term, 16]]
_limit_of: HashMap[bytes32, uint256]  # of a scan: place of the symbol that limits its steps, plus one


@external
def announce(commitment: bytes32):
    """
    @notice Says that a graph will be registered, without saying which: nobody who sees `register` can come first.
    @param commitment keccak256(abi.encode(graph, owner)).
    """
    if self.announced_at[commitment] == 0:
        self.announced_at[commitment] = block.number
        log Announced(owner=msg.sender, commitment=commitment)


@external
@nonreentrant
def register(graph_file: Bytes[FILE_MAX]) -> bytes32:
    """
    @notice Registers a hypergraph, or begins to; whoever sends this becomes its owner, for good. Reverts unless the file
            is a well-formed graph of which the court can show every wrong element, and was announced in an earlier block.
    @param graph_file The canonical encoding of the whole graph, as `graph compile` writes it, or its beginning, which
                      ends where a subgraph begins.
    @return The graph's id.
    """
    facts: Facts = self._read(concat(b"\x00\x00", graph_file))
    graph: bytes32 = facts.graph
    assert self.owner_of[graph] == empty(address), "GraphRegistry: already registered"
    assert self.begun_by[graph] == empty(address), "GraphRegistry: already begun"
    if msg.sender != SYSTEM_ADDRESS:
        announced: uint256 = self.announced_at[keccak256(abi_encode(graph, msg.sender))]
        assert announced > 0 and announced < block.number, "GraphRegistry: not announced in an earlier block"

    # The native call read the file: its first four bytes are the top layer's size, of which two are not zero.
    size: uint256 = convert(slice(graph_file, 0, 1), uint256) + 256 * convert(slice(graph_file, 1, 1), uint256)
    top_layer: Bytes[TOP_LAYER_MAX] = convert(slice(graph_file, 4, size), Bytes[TOP_LAYER_MAX])
    self._top_layers[graph] = raw_create(concat(KEEPER, KEEPER, top_layer))
    self.name_of[graph] = facts.name
    self._symbols[graph] = facts.symbols
    if convert(slice(graph_file, 4, 1), uint8) == SCAN_VERSION:
        # The last byte of a scan's top layer says which symbol limits its steps.
        self._limit_of[graph] = 1 + convert(slice(graph_file, 3 + size, 1), uint256)
    if facts.end < facts.subgraphs:
        self.begun_by[graph] = msg.sender
    self._keep(facts, msg.sender)
    return graph


@external
@nonreentrant
def add(graph: bytes32, first: uint256, operators: Bytes[FILE_MAX]):
    """
    @notice Adds the next part of a graph that was begun; the last one registers it, for who began it. Anybody may.
    @param first Number of the part's first subgraph: `next_subgraph`.
    @param operators What follows in the graph file: the operators of whole subgraphs.
    """
    owner: address = self.begun_by[graph]
    assert self.owner_of[graph] == empty(address), "GraphRegistry: already registered"
    assert owner != empty(address), "GraphRegistry: not begun"
    assert first == self.next_subgraph[graph], "GraphRegistry: not the next part"
    top_layer: Bytes[TOP_LAYER_MAX] = self._top_layer(graph)
    size: uint256 = len(top_layer)
    facts: Facts = self._read(
        concat(
            convert(convert(first, uint16), bytes2),
            convert(convert(size % 256, uint8), bytes1),
            convert(convert(size // 256, uint8), bytes1),
            b"\x00\x00",
            top_layer,
            operators,
        )
    )
    assert convert(facts.end, uint256) > first, "GraphRegistry: an empty part"
    self._keep(facts, owner)


@internal
@view
def _read(part: Bytes[CALL_MAX]) -> Facts:
    success: bool = False
    response: Bytes[FACTS_MAX] = b""
    success, response = raw_call(
        GRAPH_FACTS, part, max_outsize=FACTS_MAX, is_static_call=True, revert_on_failure=False
    )
    assert success and len(response) > 0, "GraphRegistry: not a graph that can be registered"
    facts: Facts = empty(Facts)
    (
        facts.graph,
        facts.name,
        facts.symbols,
        facts.end,
        facts.subgraphs,
        facts.operands,
        facts.macs,
        facts.mining_macs,
    ) = abi_decode(
        response,
        (
            bytes32,
            String[64],
            DynArray[Symbol, 4],
            uint32,
            uint32,
            DynArray[Operand, 256],
            DynArray[Term, 16],
            DynArray[Term, 16],
        ),
    )
    return facts


@internal
def _keep(facts: Facts, owner: address):
    graph: bytes32 = facts.graph
    for operand: Operand in facts.operands:
        self._operands[graph][operand.operator] = Weights(
            root=operand.root, shape=(convert(operand.k, uint256) << 32) | convert(operand.n, uint256)
        )
    macs: DynArray[Term, 16] = self._sum(self._macs[graph], facts.macs)
    highs: DynArray[uint32, 4] = []
    for symbol: Symbol in facts.symbols:
        highs.append(symbol.high)
    assert self._evaluate(macs, highs) < 2**128, "GraphRegistry: too many macs"
    self._macs[graph] = macs
    self._mining_macs[graph] = self._sum(self._mining_macs[graph], facts.mining_macs)
    if facts.end < facts.subgraphs:
        self.next_subgraph[graph] = convert(facts.end, uint256)
        log Added(graph=graph, end=convert(facts.end, uint256), subgraphs=convert(facts.subgraphs, uint256))
        return

    assert len(macs) > 0, "GraphRegistry: no macs"
    self.owner_of[graph] = owner
    self.graph_at[self.graph_count] = graph
    self.graph_count += 1
    self._lineage[graph] = Lineage(number=convert(self.graph_count, uint64), bps=0, is_set=False)
    log Registered(graph=graph, owner=owner, name=facts.name)


@internal
@pure
def _sum(kept: DynArray[Term, 16], more: DynArray[Term, 16]) -> DynArray[Term, 16]:
    terms: DynArray[Term, 16] = kept
    for term: Term in more:
        is_new: bool = True
        for i: uint256 in range(len(terms), bound=16):
            exponents: uint8[4] = terms[i].exponents
            if (
                exponents[0] == term.exponents[0]
                and exponents[1] == term.exponents[1]
                and exponents[2] == term.exponents[2]
                and exponents[3] == term.exponents[3]
            ):
                terms[i].coefficient += term.coefficient
                is_new = False
                break
        if is_new:
            assert len(terms) < 16, "GraphRegistry: too many terms"
            terms.append(term)
    return terms


@internal
@view
def _top_layer(graph: bytes32) -> Bytes[TOP_LAYER_MAX]:
    return raw_call(self._top_layers[graph], b"", max_outsize=TOP_LAYER_MAX, is_static_call=True)


@external
def set_lineage(graph: bytes32, parent: bytes32, bps: uint256):
    """
    @notice Says, once, what a graph was made from and what its owner takes of the fee of each job.
    @param parent A graph registered before this one; zero for none.
    @param bps Basis points of a fee, for jobs of this graph and of those made from it, down to grandchildren.
    """
    assert msg.sender == self.owner_of[graph], "GraphRegistry: not the owner"
    lineage: Lineage = self._lineage[graph]
    assert not lineage.is_set, "GraphRegistry: lineage is set"
    assert bps <= ROYALTY_MAX, "GraphRegistry: royalty too high"
    if parent != empty(bytes32):
        earlier: uint64 = self._lineage[parent].number
        assert earlier > 0 and earlier < lineage.number, "GraphRegistry: parent not registered earlier"
        self.parent_of[graph] = parent
    self._lineage[graph] = Lineage(number=lineage.number, bps=convert(bps, uint64), is_set=True)
    log LineageSet(graph=graph, parent=parent, bps=bps)


@external
@view
def royalties(graph: bytes32) -> (DynArray[address, 3], DynArray[uint256, 3]):
    """
    @notice Who gets which basis points of a job's fee: the owners of the graph, its parent and its grandparent, each
            what it set; together at most 3,000, where the furthest goes without first. Owners of nothing are left out.
    """
    owners: DynArray[address, 3] = []
    shares: DynArray[uint256, 3] = []
    left: uint256 = ROYALTIES_MAX
    generation: bytes32 = graph
    for _: uint256 in range(GENERATIONS):
        share: uint256 = min(convert(self._lineage[generation].bps, uint256), left)
        if share > 0:
            owners.append(self.owner_of[generation])
            shares.append(share)
            left -= share
        generation = self.parent_of[generation]
        if generation == empty(bytes32):
            break
    return owners, shares


@external
@view
def is_registered(graph: bytes32) -> bool:
    """
    @notice Whether jobs may name this graph.
    """
    return self.owner_of[graph] != empty(address)


@external
@view
def top_layer(graph: bytes32) -> Bytes[TOP_LAYER_MAX]:
    """
    @notice The bytes whose hash is the graph's id; empty if unknown. Those of a graph that was begun are there.
    """
    return self._top_layer(graph)


@external
@view
def operand(graph: bytes32, operator: uint32) -> (bytes32, uint32, uint32):
    """
    @notice Root, k and n of the weights of a product that may be mined.
    """
    assert self.owner_of[graph] != empty(address), "GraphRegistry: unknown operand"
    weights: Weights = self._operands[graph][operator]
    assert weights.root != empty(bytes32), "GraphRegistry: unknown operand"
    return weights.root, convert(weights.shape >> 32, uint32), convert(weights.shape % 2**32, uint32)


@external
@view
def symbols_of(graph: bytes32) -> DynArray[Symbol, 4]:
    """
    @notice Bounds of the graph's symbols, both ends included, in the graph's order.
    """
    return self._symbols[graph]


@external
@view
def macs(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256:
    """
    @notice MACs of one job with these symbols; reverts unless the graph takes them.
    """
    self._check_symbols(graph, symbols)
    return self._evaluate(self._macs[graph], symbols)


@external
@view
def credited_macs(graph: bytes32, symbols: DynArray[uint32, 4], output_size: uint256) -> uint256:
    """
    @notice MACs that one job credits, given the bytes of its output: a scan that stopped early is credited for the
            tokens that it made (4 bytes each), not for the steps that it might have taken.
    """
    self._check_symbols(graph, symbols)
    taken: DynArray[uint32, 4] = symbols
    limit: uint256 = self._limit_of[graph]
    if limit > 0:
        steps: uint256 = min(output_size // TOKEN_SIZE, convert(symbols[limit - 1], uint256))
        taken[limit - 1] = convert(steps, uint32)
    return self._evaluate(self._mining_macs[graph], taken)


@external
@view
def mining_macs(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256:
    """
    @notice MACs that one job with these symbols credits at most.
    """
    self._check_symbols(graph, symbols)
    return self._evaluate(self._mining_macs[graph], symbols)


@internal
@view
def _check_symbols(graph: bytes32, symbols: DynArray[uint32, 4]):
    assert self.owner_of[graph] != empty(address), "GraphRegistry: unknown graph"
    bounds: DynArray[Symbol, 4] = self._symbols[graph]
    assert len(symbols) == len(bounds), "GraphRegistry: wrong number of symbols"
    for i: uint256 in range(len(symbols), bound=4):
        assert symbols[i] >= bounds[i].low and symbols[i] <= bounds[i].high, "GraphRegistry: symbol out of bounds"


@internal
@pure
def _evaluate(terms: DynArray[Term, 16], symbols: DynArray[uint32, 4]) -> uint256:
    # Checked arithmetic; cannot overflow here: at every symbol's upper bound it is below 2^128 for each of the parts.
    total: uint256 = 0
    for term: Term in terms:
        product: uint256 = convert(term.coefficient, uint256)
        for i: uint256 in range(len(symbols), bound=4):
            for _: uint256 in range(convert(term.exponents[i], uint256), bound=4):
                product *= convert(symbols[i], uint256)
        total += product
    return total
