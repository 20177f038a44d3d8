# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title GraphRegistry: the hypergraphs that jobs may name
@license GPL-3.0-or-later
@notice Keeps the top layer of each graph, whose hash is its id, the weights that may be mined, and its
        multiply-accumulates (MACs) as polynomials in its symbols. Name and symbols are read from the top layer,
        so they are as true as the id. Mining operands and polynomials are not in it: until the registry can check
        them (with the court), only genesis may register a graph that earns credit.
@dev A predeploy: runtime code without a constructor. Source: protocol.md, Jobs and The ticket.
"""

SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
BLAKE3: constant(address) = 0x0000000000000000000000000000000000004801

NEWEST_ENCODING: constant(uint256) = 2  # first byte of a top layer: 1, or 2 with a scan
NAME_MAX: constant(uint256) = 64
SYMBOLS_MAX: constant(uint256) = 4
TERMS_MAX: constant(uint256) = 16
OPERANDS_MAX: constant(uint256) = 512
TOP_LAYER_MAX: constant(uint256) = 24576
EXPONENT_MAX: constant(uint256) = 4


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


event Registered:
    graph: indexed(bytes32)
    owner: indexed(address)
    name: String[64]


graph_count: public(uint256)
graph_at: public(HashMap[uint256, bytes32])
owner_of: public(HashMap[bytes32, address])
name_of: public(HashMap[bytes32, String[64]])
_top_layers: HashMap[bytes32, Bytes[24576]]
_symbols: HashMap[bytes32, DynArray[Symbol, 4]]
_operands: HashMap[bytes32, HashMap[uint32, Weights]]
_macs: HashMap[bytes32, DynArray[Term, 16]]
_mining_macs: HashMap[bytes32, DynArray[Term, 16]]


@external
@nonreentrant
def register(
    graph: bytes32,
    name: String[64],
    top_layer: Bytes[24576],
    operands: DynArray[Operand, 512],
    macs: DynArray[Term, 16],
    mining_macs: DynArray[Term, 16],
):
    """
    @notice Registers a hypergraph; whoever sends this becomes its owner.
    @param graph H("hypergraph", top_layer).
    @param name The name inside the top layer; names are not unique, ids are.
    @param top_layer Canonical encoding, version 1 or 2.
    @param operands Weights that may be mined, in ascending order of operator; genesis only.
    @param macs MACs of a job, a sum of coefficient * product of symbol[i] ** exponent[i].
    @param mining_macs MACs that a final job credits, likewise; genesis only.
    """
    assert self.owner_of[graph] == empty(address), "GraphRegistry: already registered"
    assert self._hash(top_layer) == graph, "GraphRegistry: not the top layer's hash"
    assert len(macs) > 0, "GraphRegistry: no macs"
    if msg.sender != SYSTEM_ADDRESS:
        assert len(operands) == 0 and len(mining_macs) == 0, "GraphRegistry: mining graphs are genesis only"

    symbols: DynArray[Symbol, 4] = self._read_symbols(name, top_layer)
    self._check_terms(macs, symbols)
    self._check_terms(mining_macs, symbols)

    self.owner_of[graph] = msg.sender
    self.name_of[graph] = name
    self.graph_at[self.graph_count] = graph
    self.graph_count += 1
    self._top_layers[graph] = top_layer
    self._symbols[graph] = symbols
    self._macs[graph] = macs
    self._mining_macs[graph] = mining_macs

    previous: uint32 = 0
    first: bool = True
    for operand: Operand in operands:
        assert first or operand.operator > previous, "GraphRegistry: operands not ascending"
        assert operand.root != empty(bytes32), "GraphRegistry: empty operand"
        assert operand.k > 0 and operand.n > 0, "GraphRegistry: empty operand"
        self._operands[graph][operand.operator] = Weights(
            root=operand.root, shape=(convert(operand.k, uint256) << 32) | convert(operand.n, uint256)
        )
        previous = operand.operator
        first = False

    log Registered(graph=graph, owner=msg.sender, name=name)


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
def mining_macs(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256:
    """
    @notice MACs that one job with these symbols credits when it is final.
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
    # Checked arithmetic; cannot overflow here, since `register` evaluated it at every symbol's upper bound.
    total: uint256 = 0
    for term: Term in terms:
        product: uint256 = convert(term.coefficient, uint256)
        for i: uint256 in range(len(symbols), bound=4):
            for _: uint256 in range(convert(term.exponents[i], uint256), bound=4):
                product *= convert(symbols[i], uint256)
        total += product
    return total


@internal
@pure
def _check_terms(terms: DynArray[Term, 16], symbols: DynArray[Symbol, 4]):
    highs: DynArray[uint32, 4] = []
    for symbol: Symbol in symbols:
        highs.append(symbol.high)
    for term: Term in terms:
        for i: uint256 in range(4):
            exponent: uint256 = convert(term.exponents[i], uint256)
            assert exponent <= EXPONENT_MAX, "GraphRegistry: exponent too large"
            assert exponent == 0 or i < len(symbols), "GraphRegistry: exponent of no symbol"
    largest: uint256 = self._evaluate(terms, highs)
    assert largest <= convert(max_value(uint128), uint256), "GraphRegistry: too many macs"


@internal
@pure
def _read_symbols(name: String[64], top_layer: Bytes[24576]) -> DynArray[Symbol, 4]:
    # version u8, name (u8 length, bytes), count u8, then for each symbol: name, low u32, high u32, little-endian.
    # `slice` reverts beyond the end.
    assert len(top_layer) > 2, "GraphRegistry: top layer too short"
    version: uint256 = convert(slice(top_layer, 0, 1), uint256)
    assert version > 0 and version <= NEWEST_ENCODING, "GraphRegistry: unknown encoding"
    size: uint256 = convert(slice(top_layer, 1, 1), uint256)
    assert size > 0 and size == len(name), "GraphRegistry: not the top layer's name"
    assert keccak256(slice(top_layer, 2, size)) == keccak256(name), "GraphRegistry: not the top layer's name"
    position: uint256 = 2 + size
    count: uint256 = convert(slice(top_layer, position, 1), uint256)
    assert count <= SYMBOLS_MAX, "GraphRegistry: too many symbols"
    position += 1
    symbols: DynArray[Symbol, 4] = []
    for _: uint256 in range(count, bound=SYMBOLS_MAX):
        position += 1 + convert(slice(top_layer, position, 1), uint256)
        low: uint32 = self._uint32(slice(top_layer, position, 4))
        high: uint32 = self._uint32(slice(top_layer, position + 4, 4))
        assert low <= high, "GraphRegistry: empty range of a symbol"
        symbols.append(Symbol(low=low, high=high))
        position += 8
    return symbols


@internal
@pure
def _uint32(little_endian: Bytes[4]) -> uint32:
    value: uint256 = convert(little_endian, uint256)
    swapped: uint256 = 0
    for _: uint256 in range(4):
        swapped = (swapped << 8) | (value % 256)
        value >>= 8
    return convert(swapped, uint32)


@internal
@view
def _hash(top_layer: Bytes[24576]) -> bytes32:
    # H("hypergraph", top_layer) = BLAKE3(len8(tag) || tag || len32 || top_layer); the length fits two bytes.
    size: uint256 = len(top_layer)
    length: bytes4 = convert(convert(((size % 256) << 24) | ((size // 256) << 16), uint32), bytes4)
    success: bool = False
    digest: Bytes[32] = b""
    success, digest = raw_call(
        BLAKE3,
        concat(b"\x0ahypergraph", length, top_layer),
        max_outsize=32,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert success and len(digest) == 32, "GraphRegistry: no BLAKE3 precompile"
    return convert(digest, bytes32)
