"""From a frame to classified cells."""
