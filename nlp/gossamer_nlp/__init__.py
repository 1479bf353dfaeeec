"""Sparse embeddings for retrieval: known-item search over docstrings, or over a BEIR folder, beside BM25."""
