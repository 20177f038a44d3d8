// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.30;

import {Counter} from "../src/Counter.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Deploys a counter and uses it: five transactions in a row from one account.
contract Deploy {
    bool public constant IS_SCRIPT = true;
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external returns (Counter counter) {
        VM.startBroadcast();
        counter = new Counter(5);
        counter.setNumber(41);
        counter.increment();
        counter.pay{value: 1000}();
        payable(address(0xbeef)).transfer(1);
        VM.stopBroadcast();
        require(counter.number() == 42, "script: wrong number");
    }
}
