"""How fast routing is: what `answerline bench` runs."""
