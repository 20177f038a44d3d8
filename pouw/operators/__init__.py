"""The exact operators: integer in, integer out, defined by value in plain numpy. These files are the definition."""
