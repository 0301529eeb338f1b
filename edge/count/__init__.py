"""Counts each cell once and keeps the differential."""
