"""Bitcoin facts (headers, inclusion, transactions: docs/spec/bitcoin.md) and the rules of the peg (docs/spec/bridge.md)."""
