"""Sparse codes and the dictionaries that they choose from: products in which few of many atoms take part.

A code (n, atoms) is kept by rows: row i has `values[starts[i]:starts[i + 1]]` at the atoms
`atoms[starts[i]:starts[i + 1]]`. A dictionary is (atoms, width), an atom a row. `loops` compiles the four products and
the choice of the largest with Numba, `reference` writes them in NumPy, `ops` gives them to PyTorch with gradients.
"""
