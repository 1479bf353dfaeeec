"""Engines in files."""


def load(path): ...
