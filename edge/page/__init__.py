"""The page: live, review, report, sign, status, in a browser."""
