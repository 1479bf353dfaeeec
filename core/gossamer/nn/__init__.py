"""Modules: sparse layers, sparse activations, autoencoders and sparse wiring."""

from gossamer.nn.activations import BatchTopK, JumpReLU, TopK
from gossamer.nn.autoencoder import SparseAutoencoder, explained_variance
from gossamer.nn.branches import Branches

__all__ = ["BatchTopK", "Branches", "JumpReLU", "SparseAutoencoder", "TopK", "explained_variance"]
