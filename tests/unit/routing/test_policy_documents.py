"""The document that people write: what it may say, and what it is told when it says something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.routing import policies
from services.routing.domain.policy import (
    DEFAULT,
    FACTS,
    Announce,
    Callback,
    Levels,
    Overflow,
    Policy,
    Prefer,
    Relax,
    Segment,
    SuggestChannels,
    Target,
    requirement,
    segment_of,
)
from shared.errors import Invalid

SAMPLES = Path(policies.__file__).parent / "sample_policies"
REFERENCE = Path(policies.__file__).parents[2] / "docs" / "policy-reference.md"


def compiled(text: str) -> Policy:
    return policies.compile(text, "sales", 3)


def mistakes(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        compiled(text)
    return [f"line {error['line']}: {error['detail']}" for error in caught.value.more["errors"]]


def with_rule(rule: str) -> str:
    return f"segments:\n  - name: vip\n    when: {json.dumps(rule)}\n"


def matches(rule: str, **facts: Any) -> bool:
    return segment_of(compiled(with_rule(rule)), facts).name == "vip"


class TestSize:
    RULE = " or ".join(["value > 1"] * 25)  # 99 words and signs

    def test_all_rules_together_have_a_limit_and_the_one_that_goes_beyond_is_named(self) -> None:
        rules = [f'  - {{name: s{at}, when: "{self.RULE}"}}' for at in range(12)]
        assert len(compiled("\n".join(["segments:", *rules[:10]])).segments) == 10
        assert mistakes("\n".join(["segments:", *rules])) == [
            "line 12: segments[10].when brings all rules together above 1000 words and signs: they are worked out for each contact"
        ]

    def test_others_have_their_turn_while_a_large_document_is_read_and_read_lately_it_takes_no_time(self) -> None:
        text = "require: {skills: {" + ", ".join(f"s{at}: 1" for at in range(100)) + "}}\nsegments:\n"
        text += "\n".join(f"  - {{name: s{at}, when: value > {at}, prefer: {{skills: {{a: 1, b: 2}}}}}}" for at in range(50))
        breaths: list[None] = []
        first = policies.compile(text, "sales", 1, breathe=lambda: breaths.append(None))
        assert len(breaths) >= 3
        breaths.clear()
        assert policies.compile(text, "sales", 1, breathe=lambda: breaths.append(None)) == first
        assert not breaths


class TestReading:
    def test_an_empty_mapping_is_the_built_in_policy(self) -> None:
        assert policies.compile("{}", "standard", 0) == DEFAULT

    def test_the_full_sample(self) -> None:
        policy = compiled((SAMPLES / "vip-and-regions.yaml").read_text())
        assert (policy.name, policy.version) == ("sales", 3)
        assert policy.target == Target(0.8, 20)
        assert [segment.name for segment in policy.segments] == ["business", "gave-up-on-self-service", "south", "writes-rather"]
        assert policy.segments[0] == Segment(
            "business",
            'tier == "business" or buying_power >= 100000',
            weight=3,
            head_start_seconds=30,
            require=Levels(skills={"contracts": 3}),
            bound_seconds=120,
        )
        assert policy.relax[1] == Relax(90, {"tax": 2, "contracts": 0}, {"customer": 3})
        assert policy.overflow == (Overflow(180, "general"),)
        assert policy.callback == Callback(90)
        assert policy.suggest_channels == SuggestChannels({"chat": "sales-chat", "email": "sales-mail"}, 60)
        assert policy.announce is not None and policy.announce.every_seconds == 45
        assert policies.queues_of(policy) == {"general", "sales-chat", "sales-mail"}

    def test_the_standard_sample_differs_from_what_is_built_in_only_in_what_it_adds(self) -> None:
        changes = policies.diff(DEFAULT, compiled((SAMPLES / "standard.yaml").read_text()))
        assert {change["path"].partition(".")[0] for change in changes} == {"affinity_seconds", "callback", "announce"}

    def test_the_reference_shows_the_sample_as_it_is_shipped(self) -> None:
        assert (SAMPLES / "vip-and-regions.yaml").read_text() in REFERENCE.read_text()
        assert all(f"`{fact}`" in REFERENCE.read_text() for fact in FACTS)

    def test_json_is_welcome(self) -> None:
        assert compiled('{\n\t"bound_seconds": 60,\n\t"require": {"skills": {"tax": 3}}\n}').bound_seconds == 60

    def test_no_is_a_language(self) -> None:
        assert compiled("require: {languages: {no: 3}}").require.languages == {"no": 3}

    def test_a_rule_may_go_over_several_lines(self) -> None:
        policy = compiled("segments:\n  - name: vip\n    when: >\n      value > 3\n      and repeat > 1\n")
        assert policy.segments[0].when == "value > 3 and repeat > 1"


class TestMistakes:
    def test_all_are_told_at_once_each_with_its_line(self) -> None:
        text = """\
target: {share: 80, seconds: 20}
segments:
  - name: vip
    when: valu > 1000
    weight: 0
  - name: vip2
    wieght: 2
    when: tier == 5
floor: {skills: {tax: 3}}
relax:
  - after_seconds: 60
    skills:
      tax: 2
"""
        assert mistakes(text) == [
            "line 1: target.share must be at most 1",
            "line 4: segments[0].when asks for 'valu', which is no fact (did you mean 'value'?)",
            "line 5: segments[0].weight must be above 0",
            "line 7: segments[1].wieght is unknown (did you mean 'weight'?)",
            "line 8: segments[1].when compares a text with a number",
            "line 13: relax[0].skills.tax relaxes tax to 2, but the floor is 3",
        ]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("bound_seconds: soon", "line 1: bound_seconds must be a number, not 'soon'"),
            ("bound_seconds: true", "line 1: bound_seconds must be a number, not True"),
            ("bound_seconds: 0", "line 1: bound_seconds must be above 0"),
            ("bound_seconds: 99999999", "line 1: bound_seconds must be at most 2592000"),
            ("bound_seconds:", "line 1: bound_seconds must be a number, not nothing"),
            ("a: 1\nb: 2\nbound_seconds: 1\n\nbound_seconds: 2", "line 5: bound_seconds is there already, on line 3"),
            ("target: 20", "line 1: target must be a mapping of share, seconds, not 20"),
            ("segments: {}", "line 1: segments must be a list, not a mapping"),
            ("segments:\n  - when: value > 1", "line 2: segments[0] lacks name"),
            ("segments:\n  - {name: 7, when: value > 1}", "line 2: segments[0].name must be a text, not 7: put it in quotes"),
            (
                "segments:\n  - {name: a, when: value > 1}\n  - {name: a, when: value > 2}",
                "line 3: segments[1].name is also that of segments[0]: choose another",
            ),
            (
                "segments: [{name: everyone, when: value > 1}]",
                "line 1: segments[0].name is the name of those whom no segment matches: choose another",
            ),
            ("require:\n  skills:\n    tax: 6", "line 3: require.skills.tax must be at most 5"),
            ("require:\n  skills:\n    tax: 2.5", "line 3: require.skills.tax must be a whole number, not 2.5"),
            ("require: {skills: {tax: 1.0e+999}}", "line 1: require.skills.tax must be a whole number, not inf"),
            ("require: {languages: {customer: 0}}", "line 1: require.languages.customer must be at least 1"),
            (
                "relax:\n  - after_seconds: 60\n  - after_seconds: 60",
                "line 3: relax[1].after_seconds must be above 60, the wait of the step before",
            ),
            (
                "relax:\n  - {after_seconds: 60, skills: {a: 2}}\n  - {after_seconds: 90, skills: {a: 3}}",
                "line 3: relax[1].skills.a is 3, but relax[0].skills.a has relaxed it to 2 already",
            ),
            ("overflow: [{after_seconds: 60}]", "line 1: overflow[0] lacks to"),
            (
                "callback:\n  offer_after_seconds: 9\n  from_hour: 20\n  to_hour: 8",
                "line 2: callback must have a from_hour before its to_hour",
            ),
            (
                "callback: {offer_after_seconds: 9, from_hour: 9.1}",
                "line 1: callback.from_hour must be in quarters of an hour: 9.5 is half past nine",
            ),
            ("suggest_channels: {to: {}}", "line 1: suggest_channels.to must be a mapping with 1 to 100 names, not a mapping"),
            (
                "announce: {every_seconds: 1, self_service: {en: Hello}}",
                "line 1: announce.every_seconds must be at least 5",
            ),
            ("target: [", "line 2: the document is neither YAML nor JSON: did not find expected node content"),
            ("", "line 1: the document is empty"),
            ("bound_seconds: 1\n---\nbound_seconds: 2", "line 1: the document is followed by another"),
        ],
    )
    def test_each_says_where_and_what_to_mend(self, text: str, told: str) -> None:
        assert told in mistakes(text)

    @pytest.mark.parametrize(
        ("rule", "told"),
        [
            ("value >", "ends too early"),
            ("value = 3", "is not understood from '= 3' on (write == to compare)"),
            ("value", "has a number where a condition belongs"),
            ("not tier", "has a text where a condition belongs"),
            ("value > 1 and tier", "has a text where a condition belongs"),
            ('tier > 3 or tier == "a"', "cannot be worked out: numbers, texts and conditions do not mix"),
            ("self_service_failed == 1", "has a number where a condition belongs"),
            ('value in ["a"]', "looks for a number in a list that has none"),
            ("1 / 0 > value", "cannot be worked out: arithmetic error: division by zero"),
            ("1e99999999 + 1e-99999999 > 1", "cannot be worked out: a number is beyond all measure"),
            ("age > 3", "asks for 'age', which is no fact (known: value, "),
            ("while", "uses a word that is reserved: elif, else or while"),
        ],
    )
    def test_a_rule_that_cannot_work_is_refused(self, rule: str, told: str) -> None:
        [mistake] = mistakes(with_rule(rule))
        assert mistake.startswith(f"line 3: segments[0].when {told}")

    @pytest.mark.parametrize(
        "rule",
        [
            "9 ** 9 ** 9 ** 9 > 1",
            "1 << 999999999 > value",
            'tier =~ "(a+)+$"',
            'tier !~~ "(a+)+$"',
            "$now == value",
            "$range(99999999) == value",
            "$map($abs, [1]) == value",
            "[x for x in [1, 2]] == [1]",
            "tier.length > 3",
            "tier.__class__ == tier",
            "customer(1)",
            'd"2026-01-01" == value',
            "value > inf",
            "value == null",
            "value in {1: 2}",
            "(" * 300,
            "not " * 250 + "self_service_failed",
            " + ".join(["value"] * 150) + " > 1",
            "v" * 2000,
        ],
    )
    def test_a_rule_can_neither_call_nor_loop_nor_compute_for_long(self, rule: str) -> None:
        assert len(mistakes(with_rule(rule))) == 1

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("a: &x [1]\nb: *x", "line 1: a uses an anchor (& or *): write it out"),
            ("bound_seconds: !!python/object/apply:os.system [ls]", "line 1: bound_seconds has a tag (!): write the plain value"),
            ("[" * 30_000, "nested too deeply"),
            ("- " * 30_000, "nested too deeply"),
            ('{"a":' * 10_000, "nested too deeply"),
            ("? [a]\n: b", "the document has a key that is no text"),
            ("x" * 70_000, "line 1: the document is larger than 64 KB"),
            ("a: \x07", "line 1: the document contains characters that no text has"),
            ("a: \ud800", "line 1: the document contains characters that no text has"),
            ("k: 1\n" * 9_000, "has too many mistakes to read on"),
            ('require: {skills: {" tax": 1}}', "must not begin or end with a space"),
            ("segments:\n" + "  - {name: s, when: value > 1}\n" * 51, "line 2: segments must have at most 50 entries"),
            ("relax:\n" + "  - {after_seconds: 1}\n" * 21, "line 2: relax must have at most 20 entries"),
        ],
    )
    def test_a_document_cannot_do_harm(self, text: str, told: str) -> None:
        assert told in "\n".join(mistakes(text))

    @given(st.text() | st.text(alphabet=' \n-:{}[]"abc0.#&*!|>'))
    def test_no_text_does_anything_but_compile_or_be_refused(self, text: str) -> None:
        try:
            compiled(text)
        except Invalid as error:
            assert error.more["errors"]


WORDS = [
    "value",
    "tier",
    "self_service_failed",
    "1",
    '"a"',
    "true",
    "and",
    "or",
    "not",
    "in",
    "==",
    "<",
    "-",
    "+",
    "/",
    "(",
    ")",
    "[",
    "]",
    ",",
]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_every_sequence_of_words_is_a_rule_that_never_raises_or_is_refused(rule: str) -> None:
    try:
        policy = compiled(with_rule(rule))
    except Invalid as error:
        assert error.more["errors"]
    else:
        assert segment_of(policy, {"value": 1}).name in ("vip", "everyone")


class TestRules:
    @pytest.fixture
    def logged(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        monkeypatch.setattr(policies.log, "warning", lambda event, **more: entries.append({"event": event, **more}), raising=False)
        return entries

    def test_facts_numbers_texts_and_lists(self) -> None:
        assert matches('tier == "business" or value >= 5000', tier="business")
        assert matches('region in ["bavaria", "tyrol"] and not self_service_failed', region="tyrol")
        assert matches("age_seconds / 3600 > 2 * 24", age_seconds=180_000.5)
        assert matches("preferred_channel != channel", preferred_channel="chat", channel="voice")
        assert not matches("value > 0.1 + 0.2", value=0.3)
        assert not matches("hour >= 22 or hour < 6", hour=12)

    def test_what_nobody_knows_is_nothing(self) -> None:
        assert matches('value == 0 and tier == "" and not self_service_failed and direction == "inbound"', value=None)

    def test_one_that_fails_is_no_match_and_is_reported_once(self, logged: list[dict[str, Any]]) -> None:
        policy = compiled(with_rule("value / buying_power > 2") + "  - {name: rest, when: value > 1}\n")
        for _ in range(3):
            assert segment_of(policy, {"value": 5, "buying_power": 0}).name == "rest"
        assert segment_of(policy, {"value": 5, "buying_power": 1}).name == "vip"
        assert policies.rule_failures(policy) == {"vip": {"failures": 3, "cause": "arithmetic error: division by zero"}}
        assert [(entry["segment"], entry["policy"], entry["version"]) for entry in logged] == [("vip", "sales", 3)]

    def test_no_fact_is_repeated_in_what_is_reported(self, logged: list[dict[str, Any]]) -> None:
        policy = compiled(with_rule("value > 2"))
        assert segment_of(policy, {"value": "secret-number"}).name == "everyone"
        assert len(logged) == 1
        assert "secret" not in str(logged) + str(policies.rule_failures(policy))

    @given(
        st.dictionaries(
            st.sampled_from(sorted(FACTS)),
            st.none() | st.booleans() | st.text() | st.integers() | st.floats() | st.lists(st.integers()) | st.binary(),
        )
    )
    def test_every_contact_has_a_segment_whatever_its_facts(self, facts: dict[str, Any]) -> None:
        names = {segment.name for segment in FULL.segments} | {"everyone"}
        assert segment_of(FULL, facts).name in names


FULL = compiled((SAMPLES / "vip-and-regions.yaml").read_text())


class TestRendering:
    def test_the_golden_document(self) -> None:
        assert policies.render(compiled("floor: {skills: {tax: 2}}\nannounce: {every_seconds: 30, self_service: {no: 'Yes'}}")) == (
            "target: {share: 0.8, seconds: 20}\n"
            "bound_seconds: 600\n"
            "affinity_seconds: 0\n"
            "prefer:\n"
            "  languages: {customer: 2}\n"
            "  regions: {customer: 1}\n"
            "  sites: {customer: 0.5}\n"
            "floor:\n"
            "  skills: {tax: 2}\n"
            "announce:\n"
            "  every_seconds: 30\n"
            "  self_service: {'no': 'Yes'}\n"
            "fit_seconds: 20\n"
            "scarcity_seconds: 20\n"
            "idle_seconds: 2\n"
            "load_seconds: 10\n"
        )

    @pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
    def test_it_compiles_to_the_same_policy(self, sample: Path) -> None:
        policy = compiled(sample.read_text())
        assert compiled(policies.render(policy)) == policy

    @given(
        st.builds(
            Policy,
            name=st.just("sales"),
            version=st.just(3),
            bound_seconds=st.floats(0.001, 2_592_000),
            require=st.builds(
                Levels, st.dictionaries(st.text("abc123.:-#' é", min_size=1).filter(lambda name: name == name.strip()), st.integers(1, 5))
            ),
            prefer=st.builds(
                Prefer, languages=st.dictionaries(st.sampled_from(["no", "yes", "1", "1e3", "0x1", "~", "null"]), st.floats(0, 9))
            ),
            announce=st.none() | st.builds(Announce, st.integers(5, 99), st.just({"en": "a: b # c, 'd' {e}", "12:30": "0o7"})),
        )
    )
    def test_so_does_any_other(self, policy: Policy) -> None:
        assert compiled(policies.render(policy)) == policy


class TestDiff:
    def test_nothing_differs_where_only_the_writing_does(self) -> None:
        assert policies.diff(compiled("bound_seconds: 600.0 # ten minutes"), compiled("{}")) == []

    def test_segments_go_by_name_and_steps_by_their_wait(self) -> None:
        vip, good = "{name: vip, when: value > 9, weight: %s}", "{name: good, when: value > 5}"
        old = compiled(f"segments: [{vip % 2}, {good}]\nrelax: [{{after_seconds: 30, skills: {{tax: 3}}}}]")
        new = compiled(f"segments: [{good}, {vip % 4}]\nrelax: [{{after_seconds: 20}}, {{after_seconds: 30, skills: {{tax: 2}}}}]")
        assert policies.diff(old, new) == [
            {"path": "segments[vip].weight", "before": 2, "after": 4},
            {"path": "relax[30s].skills.tax", "before": 3, "after": 2},
            {"path": "relax[20s]", "before": None, "after": True},
            {"path": "segments (order)", "before": ["vip", "good"], "after": ["good", "vip"]},
        ]

    def test_what_comes_and_goes(self) -> None:
        assert policies.diff(compiled("overflow: [{after_seconds: 60, to: a}]"), compiled("prefer: {}")) == [
            {"path": "prefer.languages.customer", "before": 2, "after": None},
            {"path": "prefer.regions.customer", "before": 1, "after": None},
            {"path": "prefer.sites.customer", "before": 0.5, "after": None},
            {"path": "overflow[60s].to", "before": "a", "after": None},
        ]


def test_a_dry_run_shows_what_would_change_for_those_waiting_now() -> None:
    running = compiled("{}")
    waiting = [
        {"id": "c1", "value": 9000, "skills": {"tax": 4}, "waited": 70, "preferred": ["wine"]},
        {"id": "c2", "value": 1},
        {"id": "c3"},
    ]
    draft = compiled(with_rule("value > 1000") + "    weight: 3\nprefer: {}\nrelax: [{after_seconds: 60, skills: {tax: 2}}]\n")
    found = policies.dry_run(draft, waiting, running)
    assert (found["segments"], found["moved"], found["failures"]) == ({"vip": 1, "everyone": 2}, 1, {})
    first = found["contacts"][0]
    assert (first["id"], first["segment"], first["segment_now"], first["terms"]["weight"]) == ("c1", "vip", "everyone", 3)
    assert [(row["waited"], row["skills"]) for row in first["requirements"]] == [
        (0, (("tax", 4),)),
        (60, (("tax", 2),)),
        (70, (("tax", 2),)),
    ]
    assert found["contacts"][2]["requirements"][0] == {"waited": 0, **requirement(draft, draft.segments[0], {}, 0)._asdict()}
    assert json.loads(json.dumps(found)) is not None
