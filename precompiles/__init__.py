"""Native EVM calls: address to gas, layout and implementation."""
