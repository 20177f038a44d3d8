"""From a float model to a hypergraph. Floats live here and nowhere else: what comes out is integers under roots."""
