"""Run the qa service alone: python -m services.qa"""

from shared.cli import main

main(["service", "qa"])
