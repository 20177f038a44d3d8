# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Bonds: who serves which graph, with how much at stake, and where their money goes
@license GPL-3.0-or-later
@notice A bond is BTC. Lists of providers only grow, so that a draw cannot be moved by joining after the request.
        Unbonding and slashing come with the court: until then a deposit stays.
@dev A predeploy: `initialize` is called once, by genesis. Source: protocol.md, Jobs; ADR 3.
"""

interface GraphRegistry:
    def is_registered(graph: bytes32) -> bool: view


SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
GRAPH_REGISTRY: constant(GraphRegistry) = GraphRegistry(0x0000000000000000000000000000000000005001)
PROVIDERS_MAX: constant(uint256) = 1024


event Initialized:
    min_bond: uint256


event Deposited:
    account: indexed(address)
    amount: uint256
    bond: uint256


event Serving:
    graph: indexed(bytes32)
    provider: indexed(address)
    index: uint256


event PayoutSet:
    account: indexed(address)
    payout: indexed(address)


initialized: public(bool)
min_bond: public(uint256)  # wei
total_bonds: public(uint256)  # wei
bond_of: public(HashMap[address, uint256])  # wei
serves: public(HashMap[bytes32, HashMap[address, bool]])
provider_count: public(HashMap[bytes32, uint256])
_providers: HashMap[bytes32, HashMap[uint256, address]]
_payouts: HashMap[address, address]


@external
def initialize(min_bond: uint256):
    """
    @notice Sets the network's numbers; once, by genesis.
    @param min_bond Wei that a provider must have at stake.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Bonds: not the system"
    assert not self.initialized, "Bonds: already initialized"
    assert min_bond > 0, "Bonds: no minimum"
    self.initialized = True
    self.min_bond = min_bond
    log Initialized(min_bond=min_bond)


@external
@payable
@nonreentrant
def deposit():
    """
    @notice Adds the value sent to the sender's bond.
    """
    assert msg.value > 0, "Bonds: nothing sent"
    self.bond_of[msg.sender] += msg.value
    self.total_bonds += msg.value
    log Deposited(account=msg.sender, amount=msg.value, bond=self.bond_of[msg.sender])


@external
@nonreentrant
def serve(graph: bytes32):
    """
    @notice Lists the sender as a provider of a graph: it may be named and drawn from now on.
    """
    assert self.initialized, "Bonds: not initialized"
    assert self.bond_of[msg.sender] >= self.min_bond, "Bonds: bond too small"
    assert not self.serves[graph][msg.sender], "Bonds: already serving"
    assert staticcall GRAPH_REGISTRY.is_registered(graph), "Bonds: unknown graph"
    index: uint256 = self.provider_count[graph]
    self.serves[graph][msg.sender] = True
    self._providers[graph][index] = msg.sender
    self.provider_count[graph] = index + 1
    log Serving(graph=graph, provider=msg.sender, index=index)


@external
@nonreentrant
def setPayout(to: address):
    """
    @notice Where the sender's fees and subsidies go; the zero address means the sender again.
    """
    self._payouts[msg.sender] = to
    log PayoutSet(account=msg.sender, payout=self._payout_of(msg.sender))


@external
@view
def payout_of(account: address) -> address:
    """
    @notice Where fees and subsidies of an account go: itself unless it chose another.
    """
    return self._payout_of(account)


@external
@view
def is_provider(graph: bytes32, account: address) -> bool:
    """
    @notice Whether an account serves a graph and has enough at stake.
    """
    return self.serves[graph][account] and self.bond_of[account] >= self.min_bond


@external
@view
def provider_at(graph: bytes32, index: uint256) -> address:
    """
    @notice The provider that joined a graph's list at this index.
    """
    assert index < self.provider_count[graph], "Bonds: no such provider"
    return self._providers[graph][index]


@external
@view
def providers(graph: bytes32) -> DynArray[address, 1024]:
    """
    @notice The first 1,024 providers of a graph; `provider_at` knows them all.
    """
    found: DynArray[address, 1024] = []
    for i: uint256 in range(min(self.provider_count[graph], PROVIDERS_MAX), bound=1024):
        found.append(self._providers[graph][i])
    return found


@internal
@view
def _payout_of(account: address) -> address:
    chosen: address = self._payouts[account]
    return account if chosen == empty(address) else chosen
