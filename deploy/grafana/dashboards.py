"""Makes the dashboards: python deploy/grafana/dashboards.py

A dashboard is rows of panels, a panel its title, its unit, and its queries with the names of their lines. tests/unit/test_observability.py holds the
files against this, and every query against the metrics of the code; `make e2e-observe` runs each on a real system.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS, HEIGHT, STAT_HEIGHT = 24, 8, 4
WINDOW = "$__rate_interval"
LONG_POLLS = "/v1/(stream|agents/.+/offers|contacts/.+/assignment|.*live.*)"
SHARE, SECONDS, EACH_SECOND, BYTES, NUMBER = "percentunit", "s", "ops", "bytes", "short"


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    queries: dict[str, str]
    """the name of the line, with {{label}} in it -> PromQL"""
    told: str = ""
    kind: str = "timeseries"
    stacked: bool = False
    most: float | None = None


def stat(title: str, unit: str, query: str, told: str = "", line: str = "") -> Panel:
    return Panel(title, unit, {line: query}, told, "stat")


def every(name: str, labels: str = "") -> str:
    """The metric of this name of each service."""
    return f'{{__name__=~"answerline_[a-z]+_{name}"{"," if labels else ""}{labels}}}'


def rate(series: str, by: str = "service") -> str:
    return f"sum by ({by}) (rate({series}[{WINDOW}]))"


def quantile(q: float, series: str, by: str = "") -> str:
    """Of a histogram's buckets."""
    return f"histogram_quantile({q}, {rate(series, f'le, {by}' if by else 'le')})"


def quantiles(series: str, *, of: tuple[float, ...] = (0.5, 0.95, 0.99)) -> dict[str, str]:
    return {f"p{q * 100:g}": quantile(q, series) for q in of}


def largest(series: str, by: str = "service") -> str:
    """Of what each replica says of the same database."""
    return f"max by ({by}) ({series})"


REQUESTS = "answerline_gateway_http_request_seconds"
FAILED = f'(sum(rate({REQUESTS}_count{{status=~"5.."}}[{WINDOW}])) or vector(0)) / sum(rate({REQUESTS}_count[{WINDOW}]))'
IN_USE, MOST = every("database_connections", 'what="in_use"'), every("database_connections", 'what="most"')
DEAD, HELD_UP = every("inbox_set_aside_events", 'bucket="dead"'), every("inbox_set_aside_events", 'bucket!="dead"')
SUMS = " - ".join(
    (
        largest(every("inbox_received_events_total")),
        f"sum by (service) ({largest(every('inbox_events_total'), 'service, bucket')})",
        f"sum by (service) ({largest(every('inbox_set_aside_events'), 'service, bucket')})",
    )
)
SHORT = f'route!~"{LONG_POLLS}"'
QUEUE = 'queue=~"$queue"'
WAITING, TALKING = 'state="waiting"', 'state="talking"'
OFFERED, ABANDONED, PARTS = 'outcome="offered"', 'outcome="abandoned"', 'outcome!="offered"'


def of_queues(metric: str, labels: str = "", by: str = "queue") -> str:
    return largest(f"answerline_routing_{metric}{{{','.join(filter(None, (QUEUE, labels)))}}}", by)


SERVICES = [
    [
        stat("Services up", NUMBER, 'sum(up{job="answerline"})'),
        stat("Services ready", NUMBER, f"sum({largest(every('ready'))})", "As /readyz says: the database and the broker are there."),
        stat("Alerts", NUMBER, 'count(ALERTS{alertstate="firing"}) or vector(0)', "What each means, and what to do: docs/alerts.md."),
        stat("Requests", EACH_SECOND, f"sum(rate({REQUESTS}_count[{WINDOW}]))"),
        stat("Failed requests", SHARE, FAILED),
        stat("Dead letters now", NUMBER, f"sum({largest(DEAD)})"),
        stat(
            "Last backup", "dateTimeFromNow", "max(answerline_backup_last_success_timestamp_seconds) * 1000", "57 years ago: there is none."
        ),
    ],
    [
        Panel("Traffic: requests by status", EACH_SECOND, {"{{status}}": rate(f"{REQUESTS}_count", "status")}, stacked=True),
        Panel("Traffic: commands between services", EACH_SECOND, {"{{service}}": rate(every("command_seconds_count"))}),
        Panel("Traffic: events received", EACH_SECOND, {"{{service}}": largest(f"rate({every('inbox_received_events_total')}[{WINDOW}])")}),
    ],
    [
        Panel(
            "Errors: requests that failed",
            SHARE,
            {"5xx": FAILED},
            most=1,
        ),
        Panel(
            "Errors: commands refused and failed",
            EACH_SECOND,
            {"{{service}} {{outcome}}": rate(every("command_seconds_count", 'outcome!="ok"'), "service, outcome")},
        ),
        Panel("Errors: events set aside", NUMBER, {"{{service}} {{bucket}}": largest(every("inbox_set_aside_events"), "service, bucket")}),
    ],
    [
        Panel("Duration: requests, long polls left out", SECONDS, quantiles(f"{REQUESTS}_bucket{{{SHORT}}}")),
        Panel("Duration: commands, p99", SECONDS, {"{{service}}": quantile(0.99, every("command_seconds_bucket"), "service")}),
        Panel("Duration: batches of events, p99", SECONDS, {"{{service}}": quantile(0.99, every("inbox_batch_seconds_bucket"), "service")}),
        Panel("Duration: turns of routing's desk", SECONDS, quantiles("answerline_routing_turn_seconds_bucket")),
    ],
    [
        Panel(
            "Slowest routes, p95",
            SECONDS,
            {"{{method}} {{route}}": f"topk(10, {quantile(0.95, f'{REQUESTS}_bucket{{{SHORT}}}', 'route, method')})"},
        ),
        Panel(
            "Slowest commands, p95",
            SECONDS,
            {"{{service}} {{method}}": f"topk(10, {quantile(0.95, every('command_seconds_bucket'), 'service, method')})"},
        ),
    ],
    [
        Panel(
            "Saturation: CPU",
            SHARE,
            {"{{service}}": rate('process_cpu_seconds_total{job="answerline"}')},
            "1 is one core: a process uses no more.",
        ),
        Panel(
            "Saturation: how late timers fire, p99",
            SECONDS,
            {"{{service}}": quantile(0.99, "process_hub_delay_seconds_bucket", "service")},
            "What a long step of work does to all others of its process.",
        ),
        Panel("Saturation: memory", BYTES, {"{{service}}": largest('process_resident_memory_bytes{job="answerline"}')}),
    ],
    [
        Panel(
            "Saturation: file descriptors",
            SHARE,
            {"{{service}}": largest('process_open_fds{job="answerline"} / process_max_fds{job="answerline"}')},
            most=1,
        ),
        Panel(
            "Saturation: connections to the database",
            SHARE,
            {"{{service}}": f"max by (service) (sum without (what) ({IN_USE}) / sum without (what) ({MOST}))"},
            most=1,
        ),
        Panel(
            "Saturation: connections at the door",
            NUMBER,
            {
                "open": 'sum(answerline_gateway_http_connections{what="open"})',
                "waiting: {{kind}}": "sum by (kind) (answerline_gateway_waiting_requests)",
            },
        ),
        Panel("Database size", BYTES, {"{{service}}": largest(every("database_bytes"))}),
    ],
]

QUEUES = [
    [
        stat("Waiting now", NUMBER, f"sum({of_queues('contacts', WAITING)}) or vector(0)"),
        stat("Talking now", NUMBER, f"sum({of_queues('contacts', TALKING)}) or vector(0)"),
        stat("Agents available", NUMBER, 'max(answerline_routing_agents{state="available"}) or vector(0)'),
        stat("Offered in half an hour", NUMBER, f"sum({of_queues('recent_contacts', OFFERED)})"),
        stat("Abandoned in half an hour", NUMBER, f"sum({of_queues('recent_contacts', ABANDONED)})"),
    ],
    [
        Panel("Waiting and talking", NUMBER, {"{{queue}} {{state}}": of_queues("contacts", by="queue, state")}),
        Panel("Agents by state", NUMBER, {"{{state}}": largest("answerline_routing_agents", "state")}, stacked=True),
        Panel("Longest wait now", SECONDS, {"{{queue}}": of_queues("longest_wait_seconds")}),
    ],
    [
        Panel(
            "Service level of the last half hour",
            SHARE,
            {
                "{{queue}}": of_queues("service_level"),
                "{{queue}}: target": of_queues("service_level_target"),
            },
            most=1,
        ),
        Panel(
            "Mean wait of those answered",
            SECONDS,
            {
                "{{queue}}": of_queues("answer_wait_seconds"),
                "{{queue}}: in time": of_queues("in_time_seconds"),
            },
        ),
        Panel(
            "What became of them",
            NUMBER,
            {"{{outcome}}": f"sum by (outcome) ({of_queues('recent_contacts', PARTS, 'queue, outcome')})"},
            stacked=True,
        ),
    ],
    [
        Panel("Offers, by the rule that led to them", EACH_SECOND, {"{{rule}}": rate("answerline_routing_decisions_total", "rule")}),
        Panel(
            "Waited although somebody suited was free",
            SECONDS,
            {"": f"sum(increase(answerline_routing_idle_while_waiting_seconds_total[{WINDOW}]))"},
            "Without a stated rule that explains it: to be 0.",
        ),
        Panel("Waits foretold, error", SECONDS, {"{{queue}} {{kind}}": of_queues("estimate_error_seconds", by="queue, kind")}),
        Panel(
            "Shadow gap",
            NUMBER,
            {"{{policy}}: {{figure}}": largest("answerline_routing_shadow_gap", "policy, figure")},
            "What a figure of the last day would be more, or less, under the policy's shadow.",
        ),
    ],
]

EVENTS = [
    [
        stat("Oldest event not yet sent", SECONDS, f"max({every('outbox_lag_seconds')})"),
        stat("Events not yet sent", NUMBER, f"sum({largest(every('outbox_pending_events'))})"),
        stat("Observations to be correlated", NUMBER, "max(answerline_gateway_intake_pending_observations)"),
        stat("Dead letters now", NUMBER, f"sum({largest(DEAD)})"),
        stat(
            "Sums that disagree",
            NUMBER,
            f"count({SUMS} != 0) or vector(0)",
            "received = applied + duplicate + dropped + waiting + retrying + dead, for each service (G2).",
        ),
    ],
    [
        Panel("Outbox lag", SECONDS, {"{{service}}": largest(every("outbox_lag_seconds"))}),
        Panel("Outbox: events not yet sent", NUMBER, {"{{service}}": largest(every("outbox_pending_events"))}),
        Panel("Outbox: events sent", EACH_SECOND, {"{{service}}": rate(every("outbox_published_events_total"))}),
    ],
    [
        Panel(
            "Inbox: what became of events",
            EACH_SECOND,
            {"{{service}} {{bucket}}": largest(f"rate({every('inbox_events_total')}[{WINDOW}])", "service, bucket")},
        ),
        Panel("Dead letters", NUMBER, {"{{service}}": largest(DEAD)}),
        Panel("Waiting and retried", NUMBER, {"{{service}} {{bucket}}": largest(HELD_UP, "service, bucket")}),
        Panel(
            "G2: received, less all buckets",
            NUMBER,
            {"{{service}}": SUMS},
            "Always 0: every event ends in exactly one bucket.",
        ),
    ],
    [
        Panel("Intake by door", EACH_SECOND, {"{{door}} {{result}}": rate("answerline_gateway_intake_observations_total", "door, result")}),
        Panel("Intake by source", EACH_SECOND, {"{{source}}": rate("answerline_gateway_source_observations_total", "source")}),
        Panel("Intake: age of the oldest", SECONDS, {"": "max(answerline_gateway_intake_lag_seconds)"}),
        Panel("Observations correlated", EACH_SECOND, {"": f"sum(rate(answerline_gateway_correlated_observations_total[{WINDOW}]))"}),
    ],
    [
        Panel("Webhooks: attempts", EACH_SECOND, {"{{outcome}}": rate("answerline_gateway_webhook_deliveries_total", "outcome")}),
        Panel("Webhooks: time of an attempt", SECONDS, quantiles("answerline_gateway_webhook_attempt_seconds_bucket", of=(0.5, 0.95))),
        Panel("Webhooks: oldest event owed", SECONDS, {"": "max(answerline_gateway_webhook_oldest_pending_seconds)"}),
        Panel(
            "Streams",
            EACH_SECOND,
            {
                "events": f"sum(rate(answerline_gateway_stream_events_total[{WINDOW}]))",
                "cut off": f"sum(rate(answerline_gateway_stream_cut_off_total[{WINDOW}]))",
            },
        ),
    ],
    [Panel("Clock ahead of the database's", SECONDS, {"{{service}}": largest(every("clock_skew_seconds"))})],
]

ESCALATIONS = [
    [
        stat("Oldest question nobody took", SECONDS, "max(answerline_im_oldest_question_seconds)"),
        stat(
            "Unanswered",
            NUMBER,
            'max(answerline_im_rooms{state="unanswered"}) or vector(0)',
            "Their ladders came to an end; the agent was told, and a callback booked.",
        ),
        stat("Experts available", NUMBER, 'max(answerline_im_experts{state="available"}) or vector(0)'),
        stat("Asked in the last hour", NUMBER, f"sum({largest('answerline_im_recent_questions', 'state')})"),
    ],
    [
        Panel("Open rooms, by state of the question", NUMBER, {"{{state}}": largest("answerline_im_rooms", "state")}, stacked=True),
        Panel("Questions of the last hour", NUMBER, {"{{state}}": largest("answerline_im_recent_questions", "state")}, stacked=True),
        Panel("Mean wait until", SECONDS, {"{{until}}": largest("answerline_im_recent_wait_seconds", "until")}),
    ],
    [
        Panel("Experts by presence", NUMBER, {"{{state}}": largest("answerline_im_experts", "state")}, stacked=True),
        Panel("How late steps of ladders are", SECONDS, quantiles("answerline_im_timer_error_seconds_bucket")),
        Panel("Commands and questions", EACH_SECOND, {"{{method}}": rate("answerline_im_command_seconds_count", "method")}),
    ],
]

QUALITY = [
    [
        stat("Evaluations in 7 days", NUMBER, largest("answerline_qa_recent_evaluations", "kind"), line="{{kind}}"),
        stat("Mean score", SHARE, largest("answerline_qa_recent_score", "kind"), line="{{kind}}"),
        stat("Customers' satisfaction, 1 to 5", NUMBER, "max(answerline_qa_recent_csat)"),
        stat(
            "Surveys answered",
            SHARE,
            'max(answerline_qa_recent_surveys{what="answered"}) / (max(answerline_qa_recent_surveys{what="asked"}) > 0)',
        ),
        stat("Findings overdue", NUMBER, 'max(answerline_qa_open{what="findings_overdue"})'),
    ],
    [
        Panel("What waits for somebody", NUMBER, {"{{what}}": largest("answerline_qa_open", "what")}),
        Panel(
            "Score and satisfaction",
            SHARE,
            {
                "score, {{kind}}": largest("answerline_qa_recent_score", "kind"),
                "satisfaction": "(max(answerline_qa_recent_csat) - 1) / 4",
            },
            "What evaluators say by each kind of scorecard, beside what customers say themselves (1 to 5 shown as 0 to 100 %).",
            most=1,
        ),
        Panel("Surveys of 7 days", NUMBER, {"{{what}}": largest("answerline_qa_recent_surveys", "what")}),
    ],
    [
        Panel("Contacts checked", EACH_SECOND, {"": f"sum(rate(answerline_qa_contacts_checked_total[{WINDOW}]))"}),
        Panel("Customers asked", EACH_SECOND, {"": f"sum(rate(answerline_qa_surveys_asked_total[{WINDOW}]))"}),
        Panel("Evaluations final without dispute", EACH_SECOND, {"": f"sum(rate(answerline_qa_evaluations_finished_total[{WINDOW}]))"}),
        Panel("Analyses begun", EACH_SECOND, {"{{kind}}": rate("answerline_qa_analyses_total", "kind")}),
    ],
]

TRAINING = [
    [
        stat("Certificates that hold", NUMBER, "max(answerline_training_certificates)"),
        stat("End within 14 days", NUMBER, "max(answerline_training_certificates_lapsing)"),
        stat("Practice permits", NUMBER, "max(answerline_training_permits)"),
        stat("Learners", NUMBER, "max(answerline_training_learning)"),
        stat("Hours this year", NUMBER, "max(answerline_training_hours)"),
    ],
    [
        Panel(
            "Certificates",
            NUMBER,
            {"hold": "max(answerline_training_certificates)", "end within 14 days": "max(answerline_training_certificates_lapsing)"},
        ),
        Panel(
            "On the way",
            NUMBER,
            {
                "learners": "max(answerline_training_learning)",
                "permits": "max(answerline_training_permits)",
                "lessons to do": "max(answerline_training_lessons_open)",
            },
        ),
        Panel(
            "Ahead", NUMBER, {"sessions": "max(answerline_training_sessions_ahead)", "places taken": "max(answerline_training_seats_ahead)"}
        ),
    ],
    [
        Panel(
            "How late ends of certificates are dealt with",
            SECONDS,
            quantiles("answerline_training_lapse_error_seconds_bucket", of=(0.5, 0.99)),
        ),
        Panel("Plans", EACH_SECOND, {"{{outcome}}": rate("answerline_training_plans_total", "outcome")}),
        Panel("Time of a plan", SECONDS, quantiles("answerline_training_plan_seconds_bucket", of=(0.5, 0.99))),
    ],
]

RABBITMQ = [
    [
        stat("Messages ready", NUMBER, "sum(rabbitmq_queue_messages_ready)"),
        stat("Messages unacknowledged", NUMBER, "sum(rabbitmq_queue_messages_unacked)"),
        stat("Connections", NUMBER, "sum(rabbitmq_connections)"),
        stat(
            "Alarms",
            NUMBER,
            "sum(rabbitmq_alarms_memory_used_watermark + rabbitmq_alarms_free_disk_space_watermark + rabbitmq_alarms_file_descriptor_limit)",
        ),
    ],
    [
        Panel("Messages by queue", NUMBER, {"{{queue}}": "sum by (queue) (rabbitmq_detailed_queue_messages)"}),
        Panel("Consumers by queue", NUMBER, {"{{queue}}": "sum by (queue) (rabbitmq_detailed_queue_consumers)"}),
        Panel(
            "Messages",
            EACH_SECOND,
            {
                "published": f"sum(rate(rabbitmq_global_messages_received_total[{WINDOW}]))",
                "delivered": f"sum(rate(rabbitmq_global_messages_delivered_total[{WINDOW}]))",
                "acknowledged": f"sum(rate(rabbitmq_global_messages_acknowledged_total[{WINDOW}]))",
                "unroutable": f"sum(rate(rabbitmq_global_messages_unroutable_returned_total[{WINDOW}]))",
            },
        ),
    ],
    [
        Panel(
            "Memory", BYTES, {"used": "sum(rabbitmq_process_resident_memory_bytes)", "limit": "sum(rabbitmq_resident_memory_limit_bytes)"}
        ),
        Panel(
            "Disk", BYTES, {"free": "min(rabbitmq_disk_space_available_bytes)", "limit": "max(rabbitmq_disk_space_available_limit_bytes)"}
        ),
        Panel("File descriptors", SHARE, {"": "max(rabbitmq_process_open_fds / rabbitmq_process_max_fds)"}, most=1),
        Panel("Connections and channels", NUMBER, {"connections": "sum(rabbitmq_connections)", "channels": "sum(rabbitmq_channels)"}),
    ],
]

VARIABLES = {"queue": "label_values(answerline_routing_recent_contacts, queue)"}
DASHBOARDS = {
    "services": ("Answerline: services", SERVICES),
    "queues": ("Answerline: queues", QUEUES),
    "events": ("Answerline: events", EVENTS),
    "escalations": ("Answerline: escalations", ESCALATIONS),
    "quality": ("Answerline: quality", QUALITY),
    "training": ("Answerline: training", TRAINING),
    "rabbitmq": ("Answerline: RabbitMQ", RABBITMQ),
}
"""file name -> title, rows"""


def panel(one: Panel, number: int, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": one.unit,
        "min": None if "clock" in one.title.lower() or "gap" in one.title or "error" in one.title else 0,
    }
    if one.most is not None:
        defaults["max"] = one.most
    options: dict[str, Any]
    if one.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value", "graphMode": "area"}
    else:
        defaults["custom"] = {
            "fillOpacity": 20 if one.stacked else 0,
            "stacking": {"mode": "normal" if one.stacked else "none"},
            "showPoints": "never",
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    targets = [
        {"refId": chr(65 + place), "datasource": SOURCE, "expr": query, "legendFormat": line or "__auto", "range": True}
        for place, (line, query) in enumerate(one.queries.items())
    ]
    return {
        "id": number, "type": one.kind, "title": one.title, "description": one.told, "datasource": SOURCE, "targets": targets, "options": options,
        "gridPos": {"x": x, "y": y, "w": width, "h": height}, "fieldConfig": {"defaults": {k: v for k, v in defaults.items() if v is not None}, "overrides": []},
    }  # fmt: skip


def dashboard(name: str) -> dict[str, Any]:
    """As Grafana imports it."""
    title, rows = DASHBOARDS[name]
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        height = STAT_HEIGHT if row[0].kind == "stat" else HEIGHT
        edges = [COLUMNS * place // len(row) for place in range(len(row) + 1)]
        panels += [
            panel(one, len(panels) + 1 + place, edges[place], y, edges[place + 1] - edges[place], height) for place, one in enumerate(row)
        ]
        y += height
    used = [variable for variable in VARIABLES if f"${variable}" in json.dumps(panels)]
    variables = [
        {
            "name": variable, "label": variable, "type": "query", "datasource": SOURCE, "query": {"query": VARIABLES[variable], "refId": variable},
            "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }
        for variable in used
    ]  # fmt: skip
    return {
        "uid": f"answerline-{name}", "title": title, "tags": ["answerline"], "schemaVersion": 39, "version": 1, "editable": True, "graphTooltip": 1,
        "time": {"from": "now-3h", "to": "now"}, "refresh": "30s", "timezone": "browser", "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["answerline"], "title": "Answerline", "asDropdown": True, "includeVars": False, "keepTime": True}],
        "templating": {"list": variables}, "panels": panels,
    }  # fmt: skip


def written() -> dict[str, str]:
    """file name -> what belongs into it"""
    return {f"{name}.json": json.dumps(dashboard(name), indent=1) + "\n" for name in DASHBOARDS}


def queries() -> dict[str, str]:
    """dashboard / panel / line -> PromQL"""
    return {
        f"{name} / {one.title} / {line}": query
        for name, (_, rows) in DASHBOARDS.items()
        for row in rows
        for one in row
        for line, query in one.queries.items()
    }


if __name__ == "__main__":
    for name, text in written().items():
        (FOLDER / name).write_text(text)
