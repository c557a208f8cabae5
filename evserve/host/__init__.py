"""The host: the `twistd` command, the config file and everything services have in common."""
