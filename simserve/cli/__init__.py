"""The command line: `entry` parses; each other module is what one command does."""
