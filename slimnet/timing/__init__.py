"""Latency: what the runtime makes of a network, measured."""
