// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity >=0.8.4;

/// The native calls at 0x…4801 and up, as a library. They have no selectors: an input is the packed fields, numbers
/// big-endian; the bytes of tensors are row-major and little-endian, as tensor roots commit to them.
/// Layouts and gas: docs/spec/precompiles.md. A call that fails has consumed all the gas that it was given.
library Operators {
    address internal constant BLAKE3 = address(0x4801);
    address internal constant OPENING = address(0x4802);
    address internal constant OPERATOR = address(0x4803);
    address internal constant ELEMENT = address(0x4804);
    address internal constant PROVEN_ELEMENT = address(0x4805);
    address internal constant TICKET = address(0x4806);
    address internal constant RUN_GRAPH = address(0x4807);

    uint8 internal constant INT8 = 1;
    uint8 internal constant INT16 = 2;
    uint8 internal constant INT32 = 3;
    uint8 internal constant INT64 = 4;
    uint8 internal constant UINT8 = 5;

    error NativeCallFailed(address native);

    function blake3Hash(bytes memory data) internal view returns (bytes32) {
        return bytes32(_call(BLAKE3, data));
    }

    /// Executes a small hypergraph. `model` is its symbols, graph file and constants (`encode_model`); `inputs` are the
    /// bytes of its input tensors, one behind the other. Returns those of its outputs.
    function runGraph(bytes32 graph, bytes memory model, bytes memory inputs) internal view returns (bytes memory) {
        return _call(RUN_GRAPH, abi.encodePacked(graph, model, inputs));
    }

    /// One operator on whole tensors; each of `tensors` is made by `tensor`. Returns the bytes of the output.
    function compute(uint8 code, int64[] memory attributes, bytes[] memory tensors)
        internal
        view
        returns (bytes memory)
    {
        bytes memory input = abi.encodePacked(code, _attributes(attributes), uint8(tensors.length));
        for (uint256 i = 0; i < tensors.length; i++) {
            input = abi.encodePacked(input, tensors[i]);
        }
        return _call(OPERATOR, input);
    }

    /// A tensor with its type, from its little-endian bytes.
    function tensor(uint8 dtype, uint32[] memory shape, bytes memory data) internal pure returns (bytes memory out) {
        out = abi.encodePacked(dtype, uint8(shape.length));
        for (uint256 i = 0; i < shape.length; i++) {
            out = abi.encodePacked(out, shape[i]);
        }
        out = abi.encodePacked(out, data);
    }

    /// The ticket of a proof that wins at `difficulty`; reverts otherwise.
    function ticket(bytes32 parentHash, bytes32 sealHash, bytes8 nonce, uint256 difficulty, bytes memory proof)
        internal
        view
        returns (bytes32)
    {
        return bytes32(_call(TICKET, abi.encodePacked(parentHash, sealHash, nonce, difficulty, proof)));
    }

    /// Element `index` of a tensor of int16.
    function int16At(bytes memory data, uint256 index) internal pure returns (int16) {
        return int16(uint16(uint8(data[2 * index])) | (uint16(uint8(data[2 * index + 1])) << 8));
    }

    /// Element `index` of a tensor of int32.
    function int32At(bytes memory data, uint256 index) internal pure returns (int32) {
        uint32 value = 0;
        for (uint256 i = 4; i > 0; i--) {
            value = (value << 8) | uint8(data[4 * index + i - 1]);
        }
        return int32(value);
    }

    /// What a data contract holds behind its first byte, which is STOP.
    function read(address model) internal view returns (bytes memory data) {
        uint256 size = model.code.length - 1;
        data = new bytes(size);
        assembly ("memory-safe") {
            extcodecopy(model, add(data, 32), 1, size)
        }
    }

    function _attributes(int64[] memory values) private pure returns (bytes memory out) {
        out = abi.encodePacked(uint8(values.length));
        for (uint256 i = 0; i < values.length; i++) {
            out = abi.encodePacked(out, values[i]);
        }
    }

    function _call(address native, bytes memory input) private view returns (bytes memory) {
        (bool success, bytes memory output) = native.staticcall(input);
        if (!success) revert NativeCallFailed(native);
        return output;
    }
}
