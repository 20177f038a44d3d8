// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.30;

/// A contract with one of everything that a wallet must decode: a getter, an event, a payment, a reason, a custom error, a panic.
contract Counter {
    event Changed(address indexed who, uint256 indexed number, string note);
    event Paid(address indexed who, uint256 amount);

    error TooFar(uint256 asked, uint256 limit);

    uint256 public constant LIMIT = 1_000_000;

    uint256 public number; // slot 0
    mapping(address => uint256) public paid; // slot 1

    constructor(uint256 start) {
        number = start;
    }

    function setNumber(uint256 next) external {
        if (next > LIMIT) revert TooFar(next, LIMIT);
        number = next;
        emit Changed(msg.sender, next, "set");
    }

    function increment() external {
        number += 1;
        emit Changed(msg.sender, number, "increment");
    }

    function refuse() external {
        number += 1;
        revert("counter: refused on purpose");
    }

    function divide(uint256 by) external view returns (uint256) {
        return number / by;
    }

    function pay() external payable {
        require(msg.value > 0, "counter: nothing paid");
        paid[msg.sender] += msg.value;
        emit Paid(msg.sender, msg.value);
    }
}
