"""Labelled samples, and the sources that `--data` names: one file each in `slimnet.data.sources`."""
