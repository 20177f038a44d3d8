"""Useful work: jobs and graphs in exact integers, tickets drawn from their products. Knows no blocks."""
