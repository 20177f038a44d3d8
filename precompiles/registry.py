"""One table: which address is which native call, what it costs, who computes it.

Addresses run from 0x…4801 up (execution.md, Precompiles).
"""

from typing import Final

from chain.engine import Precompile

BLAKE3: Final = (0x4801).to_bytes(20, "big")

PRECOMPILES: Final[tuple[Precompile, ...]] = (
    # Any bytes -> their 32-byte BLAKE3. Priced as SHA-256, which is slower.
    (BLAKE3, "blake3", 60, 12),
)
