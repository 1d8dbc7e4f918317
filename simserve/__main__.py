"""`python -m simserve` is `simserve`."""

from simserve.cli import main

main()
