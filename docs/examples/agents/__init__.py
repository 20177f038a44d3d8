"""A contract that asks one agent, and asks another one with its answer: a template to start from."""
