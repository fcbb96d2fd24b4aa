"""What a policy asks of an agent and for whom, at every moment of a wait."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.routing.domain.needs import Need, Terms
from services.routing.domain.policy import (
    DEFAULT,
    EVERYONE,
    Announce,
    Callback,
    Levels,
    Moment,
    Overflow,
    Policy,
    Prefer,
    Relax,
    Requirement,
    Segment,
    announcement,
    highest,
    moments,
    requirement,
    segment_of,
    terms,
)

VIP = Segment("vip", "value > 1000", weight=3, head_start_seconds=30, bound_seconds=120, matches=lambda facts: facts["value"] > 1000)
ANNA = {"value": 2000, "language": "de", "region": "bavaria", "site": "munich"}
NOBODY_KNOWN: dict[str, Any] = {"value": 0}


class TestSegments:
    def test_the_first_that_matches_holds(self) -> None:
        rich = Segment("rich", matches=lambda facts: facts["value"] > 100)
        assert segment_of(Policy("p", segments=(VIP, rich)), {"value": 2000}) is VIP
        assert segment_of(Policy("p", segments=(rich, VIP)), {"value": 2000}) is rich

    def test_whoever_matches_none_is_everyone_and_worth_one(self) -> None:
        assert segment_of(Policy("p", segments=(VIP,)), {"value": 3}) is EVERYONE
        assert (EVERYONE.name, EVERYONE.weight, EVERYONE.head_start_seconds) == ("everyone", 1, 0)

    def test_its_numbers_are_the_engine_s(self) -> None:
        policy = Policy("sales", 7, bound_seconds=300, segments=(VIP,))
        vip, other = Terms(**terms(policy, VIP)), Terms(**terms(policy, EVERYONE))
        assert (vip.policy, vip.version, vip.segment, vip.weight, vip.head_start, vip.bound) == ("sales", 7, "vip", 3, 30, 120)
        assert (other.segment, other.weight, other.head_start, other.bound, other.target) == ("everyone", 1, 0, 300, 20)


class TestRequirement:
    def test_the_highest_level_that_anybody_asks(self) -> None:
        vip = Segment("vip", require=Levels(skills={"tax": 4}))
        policy = Policy("p", require=Levels(skills={"tax": 2, "sales": 1}))
        assert requirement(policy, vip, {}, 0, skills={"tax": 3, "law": 5}).skills == (("law", 5), ("sales", 1), ("tax", 4))
        assert highest({"a": 1, "b": 4}, {"a": 3}, {}) == {"a": 3, "b": 4}

    def test_customer_stands_for_the_contact_s_own(self) -> None:
        policy = Policy("p", require=Levels(languages={"customer": 3}), prefer=Prefer(regions={"customer": 2}, sites={"customer": 1}))
        need = Need("q", "voice", *requirement(policy, EVERYONE, ANNA, 0))
        assert need.languages == (("de", 3),)
        assert need.prefers == (("region", "bavaria", 2), ("site", "munich", 1))

    def test_what_is_not_known_of_the_contact_is_not_asked(self) -> None:
        policy = Policy("p", require=Levels(languages={"customer": 3}))
        assert requirement(policy, EVERYONE, NOBODY_KNOWN, 0) == Requirement((), (), ())

    def test_named_and_own_language_the_same_the_greater_counts(self) -> None:
        policy = Policy("p", require=Levels(languages={"customer": 3, "de": 4}), relax=(Relax(10, languages={"de": 1}),))
        assert requirement(policy, EVERYONE, ANNA, 0).languages == (("de", 4),)
        assert requirement(policy, EVERYONE, ANNA, 10).languages == (("de", 3),)

    def test_relaxation_step_by_step_down_to_the_floor_and_no_further(self) -> None:
        policy = Policy(
            "p", floor=Levels(skills={"tax": 2}), relax=(Relax(30, skills={"tax": 3}), Relax(60, skills={"tax": 1})), prefer=Prefer()
        )
        levels = {waited: dict(requirement(policy, EVERYONE, {}, waited, skills={"tax": 5}).skills)["tax"] for waited in (0, 29.9, 30, 60)}
        assert levels == {0: 5, 29.9: 5, 30: 3, 60: 2}

    def test_a_step_is_taken_at_its_very_moment(self) -> None:
        policy, arrived = Policy("p", relax=(Relax(30, skills={"tax": 1}),)), 1_800_000_000.123
        for queued in (arrived, arrived + 0.3, arrived + 0.7):
            assert requirement(policy, EVERYONE, {}, (queued + 30) - queued, skills={"tax": 5}).skills == (("tax", 1),)

    def test_the_floor_is_asked_of_everybody(self) -> None:
        assert requirement(Policy("p", floor=Levels(skills={"tax": 2})), EVERYONE, {}, 0).skills == (("tax", 2),)

    def test_what_is_given_up_is_still_preferred(self) -> None:
        policy = Policy("p", relax=(Relax(30, skills={"tax": 0, "law": 2}),), prefer=Prefer())
        assert requirement(policy, EVERYONE, {}, 0, skills={"tax": 3, "law": 4}).prefers == ()
        after = requirement(policy, EVERYONE, {}, 30, skills={"tax": 3, "law": 4})
        assert after == Requirement((("law", 2),), (), (("skill", "law", 1), ("skill", "tax", 1)))

    def test_a_segment_s_preference_takes_the_place_of_the_policy_s(self) -> None:
        picky = Segment("picky", prefer=Prefer(regions={"customer": 5}, employment={"home": 0}))
        policy = Policy("p", prefer=Prefer(regions={"customer": 1}, employment={"home": 1}, skills={"patience": 2}))
        assert requirement(policy, picky, ANNA, 0, preferred=["wine"]).prefers == (
            ("region", "bavaria", 5),
            ("skill", "patience", 2),
            ("skill", "wine", 1),
        )


class TestMoments:
    def test_everything_that_changes_in_its_order(self) -> None:
        policy = Policy("p", relax=(Relax(30), Relax(90)), overflow=(Overflow(60, "general"),), callback=Callback(45), affinity_seconds=15)
        assert moments(policy, EVERYONE) == (
            Moment(15, "affinity_end"),
            Moment(30, "relax"),
            Moment(45, "callback_offer"),
            Moment(60, "overflow", "general"),
            Moment(90, "relax"),
            Moment(600, "bound"),
        )

    def test_a_segment_s_bound_and_affinity(self) -> None:
        assert moments(DEFAULT, Segment("s", bound_seconds=60, affinity_seconds=5)) == (Moment(5, "affinity_end"), Moment(60, "bound"))
        assert moments(Policy("p", affinity_seconds=20), Segment("s", affinity_seconds=0)) == (Moment(600, "bound"),)

    def test_everybody_has_a_bound_without_any_policy(self) -> None:
        assert moments(DEFAULT, EVERYONE) == (Moment(600, "bound"),)


def test_the_self_service_address_in_the_customer_s_language() -> None:
    policy = Policy("p", announce=Announce(30, {"en": "See help.", "de": "Siehe Hilfe."}))
    assert [announcement(policy, language) for language in ("de", "de-CH", "fr", "")] == ["Siehe Hilfe."] * 2 + ["See help."] * 2
    assert announcement(DEFAULT, "de") == ""


# Whatever the policy and whoever the contact

NAMES = st.sampled_from(["a", "b", "c"])
TONGUES = st.sampled_from(["customer", "de", "fr"])


def levels(names: st.SearchStrategy[str], least: int) -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(names, st.integers(least, 5))


ASKED = st.builds(Levels, levels(NAMES, 1), levels(TONGUES, 1))
POLICIES = st.builds(
    Policy,
    name=st.just("p"),
    require=ASKED,
    floor=ASKED,
    relax=st.lists(st.builds(Relax, st.integers(1, 100), levels(NAMES, 0), levels(TONGUES, 0)), max_size=5).map(
        lambda steps: tuple(sorted(steps, key=lambda step: step.after_seconds))
    ),
)
CONTACTS = st.fixed_dictionaries({"language": st.sampled_from(["", "de", "pl"])})
SEGMENTS = st.builds(Segment, st.just("s"), require=ASKED)
WAITS = st.integers(0, 150_000).map(lambda milliseconds: milliseconds / 1000)


@given(POLICIES, SEGMENTS, CONTACTS, levels(NAMES, 1), WAITS)
def test_the_floor_is_never_undercut(
    policy: Policy, segment: Segment, facts: dict[str, Any], skills: dict[str, int], waited: float
) -> None:
    asked = requirement(policy, segment, facts, waited, skills=skills)
    for name, least in policy.floor.skills.items():
        assert dict(asked.skills)[name] >= least
    for name, least in policy.floor.languages.items():
        if name != "customer":
            assert dict(asked.languages)[name] >= least
        elif facts["language"]:
            assert dict(asked.languages)[facts["language"]] >= least


@given(POLICIES, SEGMENTS, CONTACTS, levels(NAMES, 1), WAITS, WAITS)
def test_whoever_suits_now_suits_later(
    policy: Policy, segment: Segment, facts: dict[str, Any], skills: dict[str, int], one: float, two: float
) -> None:
    soon, later = (requirement(policy, segment, facts, waited, skills=skills) for waited in sorted((one, two)))
    for before, after in ((soon.skills, later.skills), (soon.languages, later.languages)):
        assert all(level <= dict(before).get(name, 0) for name, level in after)


@given(POLICIES, SEGMENTS, CONTACTS, levels(NAMES, 1), WAITS)
def test_nothing_changes_but_at_a_moment(
    policy: Policy, segment: Segment, facts: dict[str, Any], skills: dict[str, int], waited: float
) -> None:
    last = max((moment.after for moment in moments(policy, segment) if moment.after <= waited), default=0)
    assert requirement(policy, segment, facts, waited, skills=skills) == requirement(policy, segment, facts, last, skills=skills)


@given(POLICIES, SEGMENTS, CONTACTS, levels(NAMES, 1), WAITS)
def test_it_is_what_the_engine_takes(
    policy: Policy, segment: Segment, facts: dict[str, Any], skills: dict[str, int], waited: float
) -> None:
    asked = requirement(policy, segment, facts, waited, skills=skills)
    assert hash(asked) is not None
    assert all(1 <= level <= 5 for _, level in asked.skills + asked.languages)
    assert all(list(part) == sorted(part) for part in asked)
    assert all(weight > 0 for _, _, weight in asked.prefers)
    assert "customer" not in {name for name, _ in asked.languages} | {name for _, name, _ in asked.prefers}
