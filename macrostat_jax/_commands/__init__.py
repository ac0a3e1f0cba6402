"""The subcommands of `macrostat` that have a module of their own."""
