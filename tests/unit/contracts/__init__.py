"""The predeployed contracts, from their committed artifacts, on our own engine."""
