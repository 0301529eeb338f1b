"""What people see of a running loop: overlays, film, health."""
