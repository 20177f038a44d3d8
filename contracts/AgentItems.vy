# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title AgentItems: things that an agent's owner sells
@license GPL-3.0-or-later
@notice An ERC-1155 (snekmate): the agent's owner offers items, each with a price in BTC and a most of them; anyone
        buys. Proceeds wait for the owner.
@dev The code behind minimal proxies (EIP-1167) that AgentFactory makes. Who owns the agent's ERC-721 is the owner
     here. Source: protocol.md, Agents.
"""

from snekmate.auth import ownable
from snekmate.tokens import erc1155

initializes: ownable
initializes: erc1155[ownable := ownable]

exports: (
    erc1155.supportsInterface,
    erc1155.balanceOf,
    erc1155.balanceOfBatch,
    erc1155.isApprovedForAll,
    erc1155.setApprovalForAll,
    erc1155.safeTransferFrom,
    erc1155.safeBatchTransferFrom,
    erc1155.total_supply,
    erc1155.exists,
    erc1155.uri,
)


interface AgentFactory:
    def ownerOf(token_id: uint256) -> address: view


FACTORY: constant(AgentFactory) = AgentFactory(0x0000000000000000000000000000000000005007)


struct Offer:
    price: uint256  # wei
    most: uint256  # that there may ever be
    sold: uint256


event Launched:
    agent: indexed(uint256)


event Offered:
    id: indexed(uint256)
    price: uint256
    most: uint256
    uri: String[432]


event Bought:
    id: indexed(uint256)
    account: indexed(address)
    amount: uint256
    paid: uint256


event Withdrawn:
    to: indexed(address)
    amount: uint256


agent: public(uint256)  # id in the factory; 0 before `set_up`
proceeds: public(uint256)  # wei
offer_of: public(HashMap[uint256, Offer])


@deploy
def __init__():
    ownable.__init__()
    erc1155.__init__("")


@external
def set_up(agent: uint256):
    """
    @notice Binds new items to their agent; once, by the factory.
    """
    assert msg.sender == FACTORY.address, "AgentItems: not the factory"
    assert self.agent == 0, "AgentItems: already set up"
    self.agent = agent
    log Launched(agent=agent)


@external
def offer(id: uint256, price: uint256, most: uint256, uri: String[432]):
    """
    @notice Offers an item, or changes price and limit of one; never below what was sold. For the agent's owner.
    @param price Wei for one.
    @param most How many there may ever be; what was sold ends the sale.
    """
    assert msg.sender == self._owner(), "AgentItems: not the agent's owner"
    assert most >= self.offer_of[id].sold, "AgentItems: more were sold"
    assert price <= 2**128 and most <= 2**96, "AgentItems: offer beyond reason"
    self.offer_of[id].price = price
    self.offer_of[id].most = most
    erc1155._set_uri(id, uri)
    log Offered(id=id, price=price, most=most, uri=uri)


@external
@payable
@nonreentrant
def buy(id: uint256, amount: uint256) -> uint256:
    """
    @notice Buys items. The value sent is the most that the sender pays; what is too much goes back.
    @return Wei paid.
    """
    assert amount > 0, "AgentItems: no amount"
    offered: Offer = self.offer_of[id]
    assert amount <= offered.most - offered.sold, "AgentItems: not so many on offer"
    paid: uint256 = amount * offered.price
    assert paid <= msg.value, "AgentItems: costs more than was sent"
    self.offer_of[id].sold = offered.sold + amount
    self.proceeds += paid
    log Bought(id=id, account=msg.sender, amount=amount, paid=paid)
    erc1155._safe_mint(msg.sender, id, amount, b"")
    if msg.value > paid:
        raw_call(msg.sender, b"", value=msg.value - paid)
    return paid


@external
@nonreentrant
def withdraw(to: address):
    """
    @notice Pays the proceeds out. For the agent's owner.
    """
    assert msg.sender == self._owner(), "AgentItems: not the agent's owner"
    assert to != empty(address), "AgentItems: nobody to pay"
    amount: uint256 = self.proceeds
    assert amount > 0, "AgentItems: nothing to withdraw"
    self.proceeds = 0
    log Withdrawn(to=to, amount=amount)
    raw_call(to, b"", value=amount)


@internal
@view
def _owner() -> address:
    return staticcall FACTORY.ownerOf(self.agent)
