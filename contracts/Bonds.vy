# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Bonds: who serves which graph, with how much at stake, and where their money goes
@license GPL-3.0-or-later
@notice A bond is BTC. It is taken out in two steps, `unbond` and `withdraw`, and can be slashed until the second.
        Lists of providers and companions only grow, so that a draw cannot be moved by joining after it: leaving,
        falling below the smallest bond and being slashed end an entry for good, and who comes back joins anew.
@dev A predeploy: `initialize` is called once, by genesis. balance = total_bonds + total_unbonding + total_owed.
     Source: protocol.md, Jobs; ADR 3, ADR 9.
"""

interface GraphRegistry:
    def is_registered(graph: bytes32) -> bool: view


SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
GRAPH_REGISTRY: constant(GraphRegistry) = GraphRegistry(0x0000000000000000000000000000000000005001)
JOB_MARKET: constant(address) = 0x0000000000000000000000000000000000005003
BRIDGE: constant(address) = 0x0000000000000000000000000000000000005006

PROVIDER: constant(uint256) = 0
COMPANION: constant(uint256) = 1
LISTED_MAX: constant(uint256) = 1024
WALK_MAX: constant(uint256) = 8  # entries that a draw of a companion looks at
PUSH_GAS: constant(uint256) = 50_000


event Initialized:
    min_bond: uint256
    unbonding_blocks: uint256
    pause_blocks: uint256


event Deposited:
    account: indexed(address)
    amount: uint256
    bond: uint256


event Serving:
    graph: indexed(bytes32)
    provider: indexed(address)
    index: uint256


event ServingAsCompanion:
    graph: indexed(bytes32)
    companion: indexed(address)
    index: uint256


event Left:
    graph: indexed(bytes32)
    account: indexed(address)


event Paused:
    account: indexed(address)
    until: uint256


event Unbonding:
    account: indexed(address)
    amount: uint256
    until: uint256


event Withdrawn:
    account: indexed(address)
    amount: uint256


event Slashed:
    account: indexed(address)
    beneficiary: indexed(address)
    amount: uint256
    burned: uint256


event PayoutSet:
    account: indexed(address)
    payout: indexed(address)


initialized: public(bool)
min_bond: public(uint256)  # wei
unbonding_blocks: public(uint256)
pause_blocks: public(uint256)
total_bonds: public(uint256)  # wei
total_unbonding: public(uint256)  # wei
total_owed: public(uint256)  # wei
bond_of: public(HashMap[address, uint256])  # wei
unbonding_of: public(HashMap[address, uint256])  # wei; still slashable
unbonding_until: public(HashMap[address, uint256])  # first block for `withdraw`
paused_until: public(HashMap[address, uint256])  # first block after a provider's pause
owed: public(HashMap[address, uint256])  # wei for `withdraw_owed`
_counts: HashMap[uint256, HashMap[bytes32, uint256]]  # role -> graph -> entries ever
_entries: HashMap[uint256, HashMap[bytes32, HashMap[uint256, address]]]
_places: HashMap[uint256, HashMap[bytes32, HashMap[address, uint256]]]  # generation << 128 | index + 1
_generations: HashMap[address, uint256]  # grows when a bond falls below the smallest: ends all of its entries
_payouts: HashMap[address, address]


@external
def initialize(min_bond: uint256, unbonding_blocks: uint256, pause_blocks: uint256):
    """
    @notice Sets the network's numbers; once, by genesis.
    @param min_bond Wei that a provider or a companion must have at stake.
    @param unbonding_blocks Blocks for which an unbonded amount can still be slashed.
    @param pause_blocks Blocks for which a provider that missed a deadline is not drawn.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Bonds: not the system"
    assert not self.initialized, "Bonds: already initialized"
    assert min_bond > 0, "Bonds: no minimum"
    assert unbonding_blocks > 0, "Bonds: no unbonding time"
    assert unbonding_blocks <= 2**64 and pause_blocks <= 2**64, "Bonds: blocks beyond reason"
    self.initialized = True
    self.min_bond = min_bond
    self.unbonding_blocks = unbonding_blocks
    self.pause_blocks = pause_blocks
    log Initialized(min_bond=min_bond, unbonding_blocks=unbonding_blocks, pause_blocks=pause_blocks)


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
    index: uint256 = self._join(PROVIDER, graph)
    log Serving(graph=graph, provider=msg.sender, index=index)


@external
@nonreentrant
def serve_as_companion(graph: bytes32):
    """
    @notice Lists the sender as a companion of a graph: it may be drawn to check jobs that are submitted from now on.
    """
    index: uint256 = self._join(COMPANION, graph)
    log ServingAsCompanion(graph=graph, companion=msg.sender, index=index)


@external
@nonreentrant
def leave(graph: bytes32):
    """
    @notice Ends the sender's entries for a graph, as a provider and as a companion. Jobs taken remain its own.
    """
    assert self._is_listed(PROVIDER, graph, msg.sender) or self._is_listed(
        COMPANION, graph, msg.sender
    ), "Bonds: not serving"
    self._places[PROVIDER][graph][msg.sender] = 0
    self._places[COMPANION][graph][msg.sender] = 0
    log Left(graph=graph, account=msg.sender)


@external
@nonreentrant
def unbond(amount: uint256):
    """
    @notice Takes an amount out of the bond at once; it can be withdrawn, or until then slashed, after
            `unbonding_blocks`. A second call makes the first amount wait anew.
    """
    bond: uint256 = self.bond_of[msg.sender]
    assert amount > 0, "Bonds: nothing to unbond"
    assert amount <= bond, "Bonds: more than the bond"
    until: uint256 = block.number + self.unbonding_blocks
    self.bond_of[msg.sender] = bond - amount
    self.total_bonds -= amount
    self.unbonding_of[msg.sender] += amount
    self.total_unbonding += amount
    self.unbonding_until[msg.sender] = until
    if bond - amount < self.min_bond:
        self._generations[msg.sender] += 1
    log Unbonding(account=msg.sender, amount=amount, until=until)


@external
@nonreentrant
def withdraw():
    """
    @notice Pays out what was unbonded, once its time is over.
    """
    amount: uint256 = self.unbonding_of[msg.sender]
    assert amount > 0, "Bonds: nothing unbonded"
    assert block.number >= self.unbonding_until[msg.sender], "Bonds: still unbonding"
    self.unbonding_of[msg.sender] = 0
    self.total_unbonding -= amount
    log Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@external
@nonreentrant
def withdraw_owed(account: address = msg.sender):
    """
    @notice Pays an account its shares of slashed bonds. Anyone may send this.
    """
    amount: uint256 = self.owed[account]
    assert amount > 0, "Bonds: nothing owed"
    self.owed[account] = 0
    self.total_owed -= amount
    log Withdrawn(account=account, amount=amount)
    raw_call(account, b"", value=amount)


@external
@nonreentrant
def setPayout(to: address):
    """
    @notice Where the sender's fees and subsidies go; the zero address means the sender again.
    """
    self._payouts[msg.sender] = to
    log PayoutSet(account=msg.sender, payout=self._payout_of(msg.sender))


@external
def pause(account: address):
    """
    @notice Keeps a provider that missed a deadline from being named or drawn for `pause_blocks`.
    """
    assert msg.sender == JOB_MARKET, "Bonds: not the job market"
    until: uint256 = block.number + self.pause_blocks
    self.paused_until[account] = until
    log Paused(account=account, until=until)


@external
@nonreentrant
def slash(account: address, beneficiary: address) -> uint256:
    """
    @notice Takes all that an account has at stake, unbonding included: half is kept for the beneficiary, the other
            half is burned, which means given to the bridge's surplus.
    @return Wei taken.
    """
    assert msg.sender == JOB_MARKET, "Bonds: not the job market"
    bond: uint256 = self.bond_of[account]
    unbonding: uint256 = self.unbonding_of[account]
    amount: uint256 = bond + unbonding
    reward: uint256 = amount // 2
    burned: uint256 = amount - reward
    self.bond_of[account] = 0
    self.unbonding_of[account] = 0
    self.total_bonds -= bond
    self.total_unbonding -= unbonding
    self._generations[account] += 1
    self.owed[beneficiary] += reward
    self.total_owed += reward
    log Slashed(account=account, beneficiary=beneficiary, amount=amount, burned=burned)
    if not raw_call(BRIDGE, b"", value=burned, gas=PUSH_GAS, revert_on_failure=False):
        self.owed[BRIDGE] += burned
        self.total_owed += burned
    return amount


@external
@view
def payout_of(account: address) -> address:
    """
    @notice Where fees and subsidies of an account go: itself unless it chose another.
    """
    return self._payout_of(account)


@external
@view
def serves(graph: bytes32, account: address) -> bool:
    """
    @notice Whether an account is listed as a provider of a graph, paused or not.
    """
    return self._is_listed(PROVIDER, graph, account)


@external
@view
def is_provider(graph: bytes32, account: address) -> bool:
    """
    @notice Whether an account serves a graph, has enough at stake, and is not paused.
    """
    return self._is_listed(PROVIDER, graph, account) and block.number >= self.paused_until[account]


@external
@view
def is_companion(graph: bytes32, account: address) -> bool:
    """
    @notice Whether an account may be drawn to check a graph's jobs.
    """
    return self._is_listed(COMPANION, graph, account)


@external
@view
def provider_count(graph: bytes32) -> uint256:
    """
    @notice Entries in a graph's list of providers, ended ones included.
    """
    return self._counts[PROVIDER][graph]


@external
@view
def companion_count(graph: bytes32) -> uint256:
    """
    @notice Entries in a graph's list of companions, ended ones included.
    """
    return self._counts[COMPANION][graph]


@external
@view
def provider_at(graph: bytes32, index: uint256) -> address:
    """
    @notice The provider that joined a graph's list at this index, whether or not the entry has ended.
    """
    assert index < self._counts[PROVIDER][graph], "Bonds: no such provider"
    return self._entries[PROVIDER][graph][index]


@external
@view
def companion_at(graph: bytes32, index: uint256) -> address:
    """
    @notice The companion that joined a graph's list at this index, whether or not the entry has ended.
    """
    assert index < self._counts[COMPANION][graph], "Bonds: no such companion"
    return self._entries[COMPANION][graph][index]


@external
@view
def drawn_provider(graph: bytes32, index: uint256) -> address:
    """
    @notice The provider of this entry, if the entry stands and its provider is not paused; else zero.
    """
    found: address = self._standing(PROVIDER, graph, index)
    return empty(address) if block.number < self.paused_until[found] else found


@external
@view
def drawn_companion(graph: bytes32, index: uint256, count: uint256, excluded: address) -> address:
    """
    @notice The first standing entry of another than `excluded`, from `index` on round the first `count` entries;
            zero if the eight entries that are looked at hold none.
    """
    if count == 0:
        return empty(address)
    for i: uint256 in range(min(count, WALK_MAX), bound=WALK_MAX):
        found: address = self._standing(COMPANION, graph, (index + i) % count)
        if found != empty(address) and found != excluded:
            return found
    return empty(address)


@external
@view
def providers(graph: bytes32) -> DynArray[address, 1024]:
    """
    @notice Providers of a graph among the first 1,024 entries, paused or not; `provider_at` knows all entries.
    """
    return self._listed(PROVIDER, graph)


@external
@view
def companions(graph: bytes32) -> DynArray[address, 1024]:
    """
    @notice Companions of a graph among the first 1,024 entries; `companion_at` knows all entries.
    """
    return self._listed(COMPANION, graph)


@internal
def _join(role: uint256, graph: bytes32) -> uint256:
    assert self.initialized, "Bonds: not initialized"
    assert self.bond_of[msg.sender] >= self.min_bond, "Bonds: bond too small"
    assert not self._is_listed(role, graph, msg.sender), "Bonds: already serving"
    assert staticcall GRAPH_REGISTRY.is_registered(graph), "Bonds: unknown graph"
    index: uint256 = self._counts[role][graph]
    self._counts[role][graph] = index + 1
    self._entries[role][graph][index] = msg.sender
    self._places[role][graph][msg.sender] = self._place(msg.sender, index)
    return index


@internal
@view
def _place(account: address, index: uint256) -> uint256:
    return (self._generations[account] << 128) | (index + 1)


@internal
@view
def _is_listed(role: uint256, graph: bytes32, account: address) -> bool:
    # The generation moves whenever the bond falls below the smallest: an entry that stands has enough at stake.
    place: uint256 = self._places[role][graph][account]
    return place != 0 and place >> 128 == self._generations[account]


@internal
@view
def _standing(role: uint256, graph: bytes32, index: uint256) -> address:
    # Only the entry that an account holds now counts: one that left and came back does not revive its old ones.
    account: address = self._entries[role][graph][index]
    if self._places[role][graph][account] != self._place(account, index):
        return empty(address)
    return account


@internal
@view
def _listed(role: uint256, graph: bytes32) -> DynArray[address, 1024]:
    found: DynArray[address, 1024] = []
    for i: uint256 in range(min(self._counts[role][graph], LISTED_MAX), bound=1024):
        account: address = self._standing(role, graph, i)
        if account != empty(address):
            found.append(account)
    return found


@internal
@view
def _payout_of(account: address) -> address:
    chosen: address = self._payouts[account]
    return account if chosen == empty(address) else chosen
