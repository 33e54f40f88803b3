"""Command-line programs: train, evaluate, export and benchmark models."""
