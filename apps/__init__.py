"""Command-line programs: train, evaluate and export models."""
