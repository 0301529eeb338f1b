"""Frame sources: cameras, streams, videos, images."""
