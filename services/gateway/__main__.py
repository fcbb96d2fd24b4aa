"""Run the gateway service alone: python -m services.gateway"""

from shared.cli import main

main(["service", "gateway"])
