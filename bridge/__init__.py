"""Bitcoin facts (headers, inclusion, transactions: docs/spec/bitcoin.md) and the peg's rules (docs/spec/bridge.md)."""
