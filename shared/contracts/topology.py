"""Who hears what. Publishers and receivers declare the same queues and bindings from this one table, so that nothing is
published into the void, whoever starts first."""

from shared.contracts import SCHEMAS

EXCHANGE = "answerline.events"
UNROUTED = "answerline.unrouted"
UNROUTED_QUEUE = "answerline.unrouted.events"

SUBSCRIPTIONS: dict[str, tuple[str, ...]] = {
    "routing": (
        "gateway.contact_arrived.v1",
        "gateway.contact_answered.v1",
        "gateway.contact_abandoned.v1",
        "gateway.contact_transferred.v1",
        "gateway.contact_ended.v1",
        "gateway.offer_missed.v1",
        "gateway.contact_corrected.v1",
        "gateway.agent_state_reported.v1",
        "gateway.customer_erased.v1",
        "gateway.source_restarted.v1",
        "gateway.person_changed.v1",
        "qa.agent_scored.v1",
        "training.certified.v1",
        "training.practice_permitted.v1",
        "training.certification_lapsed.v1",
    ),
    "im": (
        "gateway.customer_erased.v1",
        "gateway.person_changed.v1",
        "gateway.survey_answered.v1",
        "qa.survey_asked.v1",
        "routing.contact_assigned.v1",
        "routing.contact_completed.v1",
        "routing.contact_wrapped_up.v1",
    ),
    "training": (
        "gateway.person_changed.v1",
        "qa.evaluation_submitted.v1",
        "qa.gap_found.v1",
        "routing.contact_completed.v1",
    ),
    "qa": (
        "gateway.contact_abandoned.v1",
        "gateway.contact_corrected.v1",
        "gateway.contact_ended.v1",
        "gateway.contact_transferred.v1",
        "gateway.customer_erased.v1",
        "gateway.person_changed.v1",
        "gateway.recording_available.v1",
        "gateway.survey_answered.v1",
        "im.escalation_opened.v1",
        "im.question_answered.v1",
        "routing.contact_abandoned.v1",
        "routing.contact_completed.v1",
        "routing.contact_transferred.v1",
        "routing.contact_wrapped_up.v1",
        "training.certification_lapsed.v1",
        "training.certified.v1",
        "training.practice_permitted.v1",
    ),
    "gateway": tuple(sorted(SCHEMAS)),  # all there are, for streams and webhooks
}
"""receiver -> types of event"""


def inbox_queue(receiver: str) -> str:
    return f"answerline.{receiver}.inbox"


def replay_queue(publisher: str) -> str:
    """Where a receiver whose queue was lost asks a publisher to send again."""
    return f"answerline.{publisher}.replay"


def command_queue(service: str) -> str:
    """Whichever process of the service is quickest takes what comes here."""
    return f"answerline.{service}.requests"


def shard_queue(service: str, shard: int) -> str:
    """Commands for the one process that holds this shard."""
    return f"answerline.{service}.{shard}.requests"


def publishers_of(receiver: str) -> list[str]:
    return sorted({name.partition(".")[0] for name in SUBSCRIPTIONS.get(receiver, ())})


def receivers_of(publisher: str) -> list[str]:
    return sorted(receiver for receiver in SUBSCRIPTIONS if publisher in publishers_of(receiver))
