"""How long a plan takes: `answerline bench training`."""

from __future__ import annotations

import random
import time

import click

from services.training.domain import planner
from services.training.domain.planner import Learner, Problem, Room, Trainer

COURSES = ("empathy", "listening", "conflict", "e-mail", "the tool", "the tool II")
SLOTS = 130
"""A quarter: 13 weeks of 5 days with 2 half-days each."""


def centre(people: int, rooms: int, seed: int = 1) -> Problem:
    """Two sites with teams of 15 who each need 24 hours; everybody is away on 10 half-days."""
    chance, always = random.Random(seed), frozenset(range(SLOTS))  # noqa: S311
    learners: list[Learner] = []
    sizes: dict[str, int] = {}
    for number in range(people):
        site = "ab"[number % 2]
        team = f"{site}{number // 30}"
        sizes[team] = sizes.get(team, 0) + 1
        learners.append(Learner(f"{site}-{number:05}", team, site, COURSES, frozenset(chance.sample(range(SLOTS), 10))))
    places = tuple(Room(f"{site}{number}", site, 30, always) for site in "ab" for number in range(rooms))
    trainers = tuple(
        Trainer(f"t{site}{number}", site, 30, always, frozenset(COURSES[:4]) if number % 2 else frozenset())
        for site in "ab"
        for number in range(2 * rooms)
    )
    return Problem(SLOTS, places, trainers, (), tuple(learners), {}, sizes, {}, 0.2, 4, 30)


@click.command()
@click.option("--people", default=2000, show_default=True)
@click.option("--rooms", default=2, show_default=True, help="At each of the two sites, for 30 people each.")
def training(people: int, rooms: int) -> None:
    """Plan a quarter for two sites."""
    problem = centre(people, rooms)
    began = time.monotonic()
    made = planner.plan(problem)
    click.echo(f"{made.placed} of {made.needed} half-days placed in {len(made.sessions)} sessions in {time.monotonic() - began:.1f} s")
    for one in made.short:
        click.echo(f"short: {planner.words(one)}")
