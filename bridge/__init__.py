"""Bitcoin facts (headers, inclusion, transactions: docs/spec/bitcoin.md) and peg rules, which are not built yet."""
