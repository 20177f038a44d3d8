"""One table: which address is which native call, what it costs, who computes it.

Addresses run from 0x…4801 up (execution.md, Precompiles).
"""

from typing import Final

from chain.engine import Precompile

BLAKE3: Final = (0x4801).to_bytes(20, "big")

PRECOMPILES: Final = (
    # Any bytes -> their 32-byte BLAKE3. Priced as SHA-256 (EIP-152's neighbour), which is slower.
    Precompile(address=BLAKE3, kernel="blake3", base_gas=60, gas_per_word=12),
)
