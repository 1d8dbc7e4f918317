"""`python -m simserve` is `simserve`."""

from simserve.cli.entry import main

main()
