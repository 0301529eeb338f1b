"""The running loop and the machine: the live page, the stream, status, metrics."""
