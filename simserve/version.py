"""The release, which results and a sweep's points name."""

__version__ = "0.1.0"
