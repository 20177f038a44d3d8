"""Which block may follow, which chain wins, what is final."""
