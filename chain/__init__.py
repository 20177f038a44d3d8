"""What a block is and what it does to state."""
