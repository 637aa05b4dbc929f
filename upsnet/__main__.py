"""Makes `python -m upsnet` the program `upsnet`, with the code of the folder that one is in."""

from upsnet.cli import main

main()
