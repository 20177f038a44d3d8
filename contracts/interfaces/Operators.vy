# pragma version ~=0.4.3
"""
@title Operators: the native calls at 0x…4801 and up, for Vyper
@license GPL-3.0-or-later
@notice Import it as a module: `import Operators`. The calls have no selectors, so there is no interface to declare. An
        input is its packed fields, numbers big-endian; the bytes of tensors are row-major and little-endian. Layouts
        and gas: docs/spec/precompiles.md. A call that fails has consumed all the gas that it was given.
"""

BLAKE3: constant(address) = 0x0000000000000000000000000000000000004801
OPENING: constant(address) = 0x0000000000000000000000000000000000004802
OPERATOR: constant(address) = 0x0000000000000000000000000000000000004803
ELEMENT: constant(address) = 0x0000000000000000000000000000000000004804
PROVEN_ELEMENT: constant(address) = 0x0000000000000000000000000000000000004805
TICKET: constant(address) = 0x0000000000000000000000000000000000004806
RUN_GRAPH: constant(address) = 0x0000000000000000000000000000000000004807

INPUT_MAX: constant(uint256) = 32768
OUTPUT_MAX: constant(uint256) = 8192
MODEL_MAX: constant(uint256) = 24575  # a contract's code, behind one STOP


@internal
@view
def run_graph(graph: bytes32, model: Bytes[MODEL_MAX], inputs: Bytes[4096]) -> Bytes[OUTPUT_MAX]:
    """
    @notice Executes a small hypergraph; `model` is its symbols, graph file and constants, `inputs` its input tensors.
    """
    return self._call(RUN_GRAPH, concat(graph, model, inputs))


@internal
@view
def compute(input: Bytes[INPUT_MAX]) -> Bytes[OUTPUT_MAX]:
    """
    @notice One operator on whole tensors: code, attributes, number of tensors, tensors -> bytes of the output.
    """
    return self._call(OPERATOR, input)


@internal
@view
def proven_element(input: Bytes[INPUT_MAX]) -> int256:
    """
    @notice One element of an operator on tensors that are known by their roots.
    """
    return convert(convert(slice(self._call(PROVEN_ELEMENT, input), 0, 32), bytes32), int256)


@internal
@pure
def int16_at(tensor: Bytes[OUTPUT_MAX], index: uint256) -> int16:
    """
    @notice An element of a tensor of int16.
    """
    low: uint256 = convert(slice(tensor, 2 * index, 1), uint256)
    high: uint256 = convert(slice(tensor, 2 * index + 1, 1), uint256)
    value: int256 = convert(high * 256 + low, int256)
    return convert(value - 2**16 if value >= 2**15 else value, int16)


@internal
@view
def _call(native: address, input: Bytes[INPUT_MAX]) -> Bytes[OUTPUT_MAX]:
    success: bool = False
    output: Bytes[OUTPUT_MAX] = b""
    success, output = raw_call(
        native, input, max_outsize=OUTPUT_MAX, is_static_call=True, revert_on_failure=False
    )
    assert success, "Operators: the native call failed"
    return output
