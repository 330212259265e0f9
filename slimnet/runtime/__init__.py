"""Running a network: sessions, inputs, accuracy."""
