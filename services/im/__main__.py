"""Run the im service alone: python -m services.im"""

from shared.cli import main

main(["service", "im"])
