"""Sparse autoencoder features for speech: learned without labels, pooled over a word, read by a linear recogniser."""
