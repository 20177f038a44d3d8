"""The predeployed contracts, from their committed artifacts, on titanoboa's py-evm."""
