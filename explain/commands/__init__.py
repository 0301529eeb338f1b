"""The subcommands of `edgecell explain`."""
