# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title GraphRegistry: the hypergraphs that jobs may name
@license GPL-3.0-or-later
@notice Keeps the top layer of each graph, whose hash is its id, the weights that may be mined, its multiply-accumulates
        (MACs) as polynomials in its symbols, and who gets royalties. All facts are read from the graph file by a
        native call that checks the whole graph, so that anyone may register and nobody is believed.
@dev A predeploy: runtime code without a constructor. Source: protocol.md, Jobs, The ticket, Agents (lineage).
"""

SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
GRAPH_FACTS: constant(address) = 0x0000000000000000000000000000000000004809

FILE_MAX: constant(uint256) = 131072
FACTS_MAX: constant(uint256) = 98304  # 8 * 32, a name, a top layer, 512 operands, 2 * 16 terms: 96,192 at most
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


# Two slots: a genesis call of 30 million gas registers 512 of them.
struct Weights:
    root: bytes32
    shape: uint256  # k << 32 | n


event Announced:
    owner: indexed(address)
    commitment: bytes32


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
_lineage: HashMap[bytes32, Lineage]
_top_layers: HashMap[bytes32, Bytes[24576]]
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
    @notice Registers a hypergraph; whoever sends this becomes its owner, for good. Reverts unless the file is a
            well-formed graph of which the court can show every wrong element, and was announced in an earlier block.
    @param graph_file The canonical encoding of the whole graph, as `graph compile` writes it.
    @return The graph's id.
    """
    success: bool = False
    response: Bytes[FACTS_MAX] = b""
    success, response = raw_call(
        GRAPH_FACTS, graph_file, max_outsize=FACTS_MAX, is_static_call=True, revert_on_failure=False
    )
    assert success and len(response) > 0, "GraphRegistry: not a graph that can be registered"
    graph: bytes32 = empty(bytes32)
    name: String[64] = ""
    top_layer: Bytes[24576] = b""
    symbols: DynArray[Symbol, 4] = []
    operands: DynArray[Operand, 512] = []
    macs: DynArray[Term, 16] = []
    mining_macs: DynArray[Term, 16] = []
    graph, name, top_layer, symbols, operands, macs, mining_macs = abi_decode(
        response,
        (
            bytes32,
            String[64],
            Bytes[24576],
            DynArray[Symbol, 4],
            DynArray[Operand, 512],
            DynArray[Term, 16],
            DynArray[Term, 16],
        ),
    )
    assert self.owner_of[graph] == empty(address), "GraphRegistry: already registered"
    assert len(macs) > 0, "GraphRegistry: no macs"
    if msg.sender != SYSTEM_ADDRESS:
        announced: uint256 = self.announced_at[keccak256(abi_encode(graph, msg.sender))]
        assert announced > 0 and announced < block.number, "GraphRegistry: not announced in an earlier block"

    self.owner_of[graph] = msg.sender
    self.name_of[graph] = name
    self.graph_at[self.graph_count] = graph
    self.graph_count += 1
    self._lineage[graph] = Lineage(number=convert(self.graph_count, uint64), bps=0, is_set=False)
    self._top_layers[graph] = top_layer
    self._symbols[graph] = symbols
    self._macs[graph] = macs
    self._mining_macs[graph] = mining_macs
    if convert(slice(top_layer, 0, 1), uint8) == SCAN_VERSION:
        # The last byte of a scan's top layer says which symbol limits its steps.
        self._limit_of[graph] = 1 + convert(slice(top_layer, len(top_layer) - 1, 1), uint256)
    for operand: Operand in operands:
        self._operands[graph][operand.operator] = Weights(
            root=operand.root, shape=(convert(operand.k, uint256) << 32) | convert(operand.n, uint256)
        )
    log Registered(graph=graph, owner=msg.sender, name=name)
    return graph


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
def top_layer(graph: bytes32) -> Bytes[24576]:
    """
    @notice The bytes whose hash is the graph's id; empty if unknown.
    """
    return self._top_layers[graph]


@external
@view
def operand(graph: bytes32, operator: uint32) -> (bytes32, uint32, uint32):
    """
    @notice Root, k and n of the weights of a product that may be mined.
    """
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
    # Checked arithmetic; cannot overflow here, since `graph_facts` evaluated it at every symbol's upper bound.
    total: uint256 = 0
    for term: Term in terms:
        product: uint256 = convert(term.coefficient, uint256)
        for i: uint256 in range(len(symbols), bound=4):
            for _: uint256 in range(convert(term.exponents[i], uint256), bound=4):
                product *= convert(symbols[i], uint256)
        total += product
    return total
