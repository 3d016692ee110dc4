"""Contrastive learning, built step by step: the package behind the course."""

__version__ = "0.1.0"
