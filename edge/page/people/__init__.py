"""Who may do what on the page: accounts, sign-in, and the guard at the door."""
