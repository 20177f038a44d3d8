"""The operators fast. A backend is bit-equal to `pouw/operators` or it does not serve."""
