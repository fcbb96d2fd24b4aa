"""Run the routing service alone: python -m services.routing"""

from shared.cli import main

main(["service", "routing"])
