"""Learns a microscope on the device from cells that a person named."""
