"""Labelled samples, and the sources that `--data` names."""
