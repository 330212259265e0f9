"""What every other package may use: errors, the clock, files, `--input` specs."""
