"""The networks in PyTorch: ours, what it is compared with, and who teaches it."""
