"""The node: store, importer, mempool, builder, RPC, work API."""
