"""Sparse convolutional networks for image classification."""
