# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title AgentFactory: makes agents, and is the register of who owns which
@license GPL-3.0-or-later
@notice Each agent is an ERC-721 (snekmate) here and a contract of its own, a minimal proxy (EIP-1167) of Agent; its
        owner may launch one coin and one set of items for it. Ids are unique, names are not.
@dev A predeploy without numbers of its own. Nobody is minter but `create`, nothing is burned. The transient depth is
     shared by all agents: while one calls an asker back, asks below that depth are refused. The constructor only
     fixes immutables while the artifact is built. Source: protocol.md, Agents.
"""

from snekmate.auth import ownable
from snekmate.tokens import erc721

initializes: ownable
initializes: erc721[ownable := ownable]

exports: (
    erc721.supportsInterface,
    erc721.name,
    erc721.symbol,
    erc721.balanceOf,
    erc721.ownerOf,
    erc721.approve,
    erc721.getApproved,
    erc721.setApprovalForAll,
    erc721.isApprovedForAll,
    erc721.transferFrom,
    erc721.safeTransferFrom,
    erc721.tokenURI,
    erc721.totalSupply,
    erc721.tokenByIndex,
    erc721.tokenOfOwnerByIndex,
    erc721.permit,
    erc721.nonces,
    erc721.DOMAIN_SEPARATOR,
    erc721.eip712Domain,
)


struct Symbol:
    low: uint32
    high: uint32


interface GraphRegistry:
    def is_registered(graph: bytes32) -> bool: view
    def symbols_of(graph: bytes32) -> DynArray[Symbol, 4]: view


interface Agent:
    def set_up(
        id: uint256,
        graph: bytes32,
        prefix: Bytes[4096],
        prefix_symbol: uint256,
        prefix_rows: uint32,
        currency: uint8,
        price: uint256,
    ): nonpayable
    def set_coin(coin: address): nonpayable


interface AgentCoin:
    def set_up(
        agent: uint256, name: String[25], symbol: String[11], base: uint256, slope: uint256
    ): nonpayable


interface AgentItems:
    def set_up(agent: uint256): nonpayable


GRAPH_REGISTRY: constant(GraphRegistry) = GraphRegistry(0x0000000000000000000000000000000000005001)
AGENT: constant(address) = 0x0000000000000000000000000000000000005009
AGENT_COIN: constant(address) = 0x000000000000000000000000000000000000500a
AGENT_ITEMS: constant(address) = 0x000000000000000000000000000000000000500B


event Created:
    id: indexed(uint256)
    agent: indexed(address)
    owner: indexed(address)
    name: String[64]
    graph: bytes32


event CoinLaunched:
    id: indexed(uint256)
    coin: indexed(address)


event ItemsLaunched:
    id: indexed(uint256)
    items: indexed(address)


agent_at: public(HashMap[uint256, address])  # id, from 1 to `totalSupply`, -> contract
id_of: public(HashMap[address, uint256])  # 0: no agent
name_of: public(HashMap[uint256, String[64]])
coin_of: public(HashMap[uint256, address])  # zero: none
items_of: public(HashMap[uint256, address])  # zero: none
depth: public(transient(uint256))  # least depth of an ask now; more than 0 while an agent calls an asker back


@deploy
def __init__():
    ownable.__init__()
    erc721.__init__("Hyperdust agent", "AGENT", "", "Hyperdust agent", "1")


@external
def create(
    name: String[64],
    graph: bytes32,
    prefix: Bytes[4096],
    prefix_symbol: uint256,
    prefix_rows: uint32,
    currency: uint8,
    price: uint256,
    uri: String[432],
) -> uint256:
    """
    @notice Makes an agent of the sender's.
    @param name What people call it.
    @param graph A registered hypergraph; it answers with this one for ever.
    @param prefix Bytes before every input, a system prompt for instance; they belong to the graph's first input.
    @param prefix_symbol Index of the graph's symbol that counts the first input's rows.
    @param prefix_rows How many of them the prefix is.
    @param currency What it is paid in: 0 BTC, 1 DUST. Its own coin comes after `launch_coin`, by `set_price`.
    @param price In the currency's smallest unit.
    @param uri The ERC-721's metadata.
    @return Id of the agent, from 1.
    """
    assert len(name) > 0, "AgentFactory: no name"
    assert staticcall GRAPH_REGISTRY.is_registered(graph), "AgentFactory: unknown graph"
    if len(prefix) > 0:
        symbols: DynArray[Symbol, 4] = staticcall GRAPH_REGISTRY.symbols_of(graph)
        assert prefix_symbol < len(symbols), "AgentFactory: no such symbol"
        assert prefix_rows > 0, "AgentFactory: a prefix without rows"
        assert prefix_rows < symbols[prefix_symbol].high, "AgentFactory: the prefix leaves no room"
    else:
        assert prefix_rows == 0, "AgentFactory: rows without a prefix"

    id: uint256 = erc721._total_supply() + 1
    agent: address = create_minimal_proxy_to(AGENT)
    self.agent_at[id] = agent
    self.id_of[agent] = id
    self.name_of[id] = name
    erc721._mint(msg.sender, id)
    erc721._set_token_uri(id, uri)
    log Created(id=id, agent=agent, owner=msg.sender, name=name, graph=graph)
    extcall Agent(agent).set_up(id, graph, prefix, prefix_symbol, prefix_rows, currency, price)
    return id


@external
def launch_coin(id: uint256, name: String[25], symbol: String[11], base: uint256, slope: uint256) -> address:
    """
    @notice Makes the agent's coin, sold and bought back at `base + slope * supply`. Once, for its owner.
    @param base Wei of BTC for a coin at supply 0.
    @param slope Wei of BTC by which each coin raises the price.
    @return The coin.
    """
    assert msg.sender == erc721._owner_of(id), "AgentFactory: not the owner"
    assert self.coin_of[id] == empty(address), "AgentFactory: has a coin"
    coin: address = create_minimal_proxy_to(AGENT_COIN)
    self.coin_of[id] = coin
    log CoinLaunched(id=id, coin=coin)
    extcall AgentCoin(coin).set_up(id, name, symbol, base, slope)
    extcall Agent(self.agent_at[id]).set_coin(coin)
    return coin


@external
def launch_items(id: uint256) -> address:
    """
    @notice Makes the agent's items, an ERC-1155 that its owner offers from. Once, for its owner.
    @return The items.
    """
    assert msg.sender == erc721._owner_of(id), "AgentFactory: not the owner"
    assert self.items_of[id] == empty(address), "AgentFactory: has items"
    items: address = create_minimal_proxy_to(AGENT_ITEMS)
    self.items_of[id] = items
    log ItemsLaunched(id=id, items=items)
    extcall AgentItems(items).set_up(id)
    return items


@external
def set_depth(depth: uint256):
    """
    @notice Sets the least depth of asks in this transaction, from now on. For agents alone.
    """
    assert self.id_of[msg.sender] != 0, "AgentFactory: not an agent"
    self.depth = depth
