"""Run the training service alone: python -m services.training"""

from shared.cli import main

main(["service", "training"])
