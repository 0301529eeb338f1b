"""The report of a session: one page, signed or not, as PDF and CSV."""
