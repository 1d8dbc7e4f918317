"""Operator times from measured tables: the user's own, or those of an installed aiconfigurator-core."""
