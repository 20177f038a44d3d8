"""Bitcoin facts and peg rules. Not built yet: see the README's status table."""
