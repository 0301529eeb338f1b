"""Learns a microscope on the device, and shows whether to trust what it learned."""
