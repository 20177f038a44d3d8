// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity >=0.8.4;

import {Operators} from "../interfaces/IOperators.sol";

/// The same digit network as DigitReader.vy, from Solidity: an image opens the gate if the network reads `key` in it.
contract DigitGate {
    bytes32 public immutable graph;
    address public immutable model;
    uint256 public immutable key;
    address public lastVisitor;

    constructor(bytes32 graph_, address model_, uint256 key_) {
        (graph, model, key) = (graph_, model_, key_);
    }

    function classify(bytes calldata image) public view returns (uint256 best) {
        require(image.length == 64, "DigitGate: not 8 x 8 pixels");
        bytes memory pixels = new bytes(128);
        for (uint256 i = 0; i < 64; i++) {
            pixels[2 * i] = image[i]; // int16, little-endian
        }
        bytes memory scores = Operators.runGraph(graph, Operators.read(model), pixels);
        for (uint256 digit = 1; digit < 10; digit++) {
            if (Operators.int16At(scores, digit) > Operators.int16At(scores, best)) best = digit;
        }
    }

    function enter(bytes calldata image) external {
        require(classify(image) == key, "DigitGate: wrong digit");
        lastVisitor = msg.sender;
    }

    /// One operator alone: the exact product of int8 matrices, `b` transposed; int32[m, n], little-endian.
    function multiply(uint32 m, uint32 n, uint32 k, bytes calldata a, bytes calldata b)
        external
        view
        returns (bytes memory)
    {
        bytes[] memory tensors = new bytes[](2);
        uint32[] memory shape = new uint32[](2);
        (shape[0], shape[1]) = (m, k);
        tensors[0] = Operators.tensor(Operators.INT8, shape, a);
        shape[0] = n;
        tensors[1] = Operators.tensor(Operators.INT8, shape, b);
        return Operators.compute(5, new int64[](1), tensors); // matmul; its attribute `mining` is 0
    }
}
