"""Sends a session's differential to a laboratory's information system."""
