"""The forms of the `--calib` option, one module each, and what they share; see `slimnet.data.unlabelled`."""
