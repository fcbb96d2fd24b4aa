"""For evaluators, supervisors, trainers, and the agents whose contacts they look at: what contacts were worth, and what makes the next better."""

from __future__ import annotations

from typing import Any

from services.gateway import handlers, recordings
from services.gateway.doors import OPERATING, REPORT_SECONDS, Doors, text_of
from services.gateway.doors.escalations import acting
from services.gateway.doors.supervision import WRITTEN
from services.gateway.schemas import Page
from services.gateway.schemas import quality as schemas
from services.gateway.scopes import acts_alone, leads
from shared import clock
from shared.errors import Invalid
from shared.http.endpoint import endpoint
from shared.http.wsgi import Request

EVALUATING = ("evaluator", "supervisor", "trainer")
CONCERNED = ("agent", *EVALUATING)
TELLING = ("telephony", "supervisor")
RANKS = ("admin", "supervisor", "trainer", "evaluator", "agent")


class QualityDoors(Doors):
    # Scorecards

    @endpoint("GET", "/v1/scorecards", query=Page, answer=schemas.ScorecardPage, roles=CONCERNED, tag="quality")
    def get_scorecards(self, request: Request) -> dict[str, Any]:
        """The scorecards in force, by name, page by page."""
        return self.qa.list_scorecards(after=request.query["cursor"], limit=request.query["limit"])

    @endpoint(
        "PUT", "/v1/scorecards/{name}", query=schemas.PutNote, answer=schemas.Scorecard, roles=OPERATING, tag="quality", takes=WRITTEN
    )
    def put_scorecard(self, request: Request) -> dict[str, Any]:
        """A new version of a scorecard, as YAML or JSON, for evaluations begun from now on. Handle time is refused as a criterion, with the reason."""
        name, by = request.parameters["name"], request.principal.name
        return self.qa.put_scorecard(name=name, document=text_of(request), by=by, note=request.query["note"])

    @endpoint("GET", "/v1/scorecards/{name}", query=schemas.OfVersion, answer=schemas.Scorecard, roles=CONCERNED, tag="quality")
    def get_scorecard(self, request: Request) -> dict[str, Any]:
        """A scorecard: the version in force, or the one asked for. `world-class` and `standards` come with Answerline."""
        return self.qa.get_scorecard(name=request.parameters["name"], version=request.query["version"])

    @endpoint("GET", "/v1/scorecards/{name}/proposals", answer=schemas.Proposals, roles=EVALUATING, tag="quality")
    def get_proposals(self, request: Request) -> dict[str, Any]:
        """Weights that validity proposed, the newest first. None of them counts before a person accepts it."""
        return self.qa.list_proposals(name=request.parameters["name"])

    @endpoint("POST", "/v1/scorecards/{name}/proposals/{id}", body=schemas.Decide, answer=schemas.Proposal, roles=OPERATING, tag="quality")
    def post_proposal(self, request: Request) -> dict[str, Any]:
        """Accept proposed weights, which makes a new version of the scorecard, or refuse them."""
        return self.qa.decide_proposal(id=request.parameters["id"], accepted=request.body["accepted"], by=request.principal.name)

    # Contacts

    @endpoint("GET", "/v1/contacts/{id}/quality", answer=schemas.ContactQuality, roles=EVALUATING, tag="quality")
    def get_contact_quality(self, request: Request) -> dict[str, Any]:
        """A contact's facts and its automatic checks; what the customer said only to those who have evaluated it, or lead."""
        return self.qa.get_contact(contact=self.contact_of(request), viewer=viewer(self, request))

    @endpoint(
        "PUT", "/v1/contacts/{id}/transcript", body=schemas.PutTranscript, answer=schemas.TranscriptTaken, roles=TELLING, tag="quality"
    )
    def put_transcript(self, request: Request) -> dict[str, Any]:
        """What was said or written in a contact, turn by turn. It is checked by the rules at once."""
        return self.qa.put_transcript(contact=self.contact_of(request), **request.body)

    @endpoint("GET", "/v1/contacts/{id}/transcript", answer=schemas.Transcript, roles=EVALUATING, tag="quality")
    def get_transcript(self, request: Request) -> dict[str, Any]:
        """The thread of a contact. That it was opened, and by whom, is written down."""
        return self.qa.get_transcript(contact=self.contact_of(request), viewer=viewer(self, request))

    # Evaluations

    @endpoint(
        "POST", "/v1/evaluations", body=schemas.OpenEvaluation, answer=schemas.Evaluation, status=201, roles=EVALUATING, tag="quality"
    )
    def post_evaluation(self, request: Request) -> dict[str, Any]:
        """Begin to evaluate a contact; with `blind` somebody else scores the same, and neither sees the other's."""
        contact = handlers.find_contact(self.core.units, request.body["contact"])
        told = {**request.body, "contact": contact, "evaluator": request.body["evaluator"] or request.principal.person}
        if told["evaluator"] == request.principal.person:
            told["role"] = role_of(request)
        return self.qa.open_evaluation(told=told, viewer=viewer(self, request))

    @endpoint("GET", "/v1/evaluations", query=schemas.Evaluations, answer=schemas.EvaluationPage, roles=CONCERNED, tag="quality")
    def get_evaluations(self, request: Request) -> dict[str, Any]:
        """Evaluations, the newest first. An agent sees their own; an evaluator none of a contact that they have yet to submit theirs of, and of
        others' neither score nor note where they might yet evaluate the contact."""
        return self.qa.list_evaluations(filters=paged(request), viewer=viewer(self, request))

    @endpoint("GET", "/v1/evaluations/{id}", answer=schemas.Evaluation, roles=CONCERNED, tag="quality")
    def get_evaluation(self, request: Request) -> dict[str, Any]:
        """An evaluation with its marks, and which criteria are asked, given the answers so far."""
        return self.qa.get_evaluation(id=request.parameters["id"], viewer=viewer(self, request))

    @endpoint("PUT", "/v1/evaluations/{id}", body=schemas.WriteEvaluation, answer=schemas.Evaluation, roles=EVALUATING, tag="quality")
    def put_evaluation(self, request: Request) -> dict[str, Any]:
        """Save marks and note in a draft; what is not named stays as it is."""
        told = {name: value for name, value in request.body.items() if name != "person"}
        return self.qa.write_evaluation(id=request.parameters["id"], told=told, by=acting(request), viewer=viewer(self, request))

    @endpoint("DELETE", "/v1/evaluations/{id}", status=204, roles=EVALUATING, tag="quality")
    def delete_evaluation(self, request: Request) -> None:
        """Drop a draft. What was submitted stays, and can be disputed."""
        self.qa.drop_evaluation(id=request.parameters["id"], by=request.principal.person, viewer=viewer(self, request))

    @endpoint("POST", "/v1/evaluations/{id}/submit", body=schemas.Act, answer=schemas.Evaluation, roles=EVALUATING, tag="quality")
    def post_submit(self, request: Request) -> dict[str, Any]:
        """Submit a draft. Its evaluator must have played a recording of the contact or opened its thread (that they listened live counts only
        where nothing was kept), and what was missed names the second or the message where it shows."""
        id, by, seen = request.parameters["id"], acting(request), viewer(self, request)
        contact = self.qa.get_evaluation(id=id, viewer=seen)["contact"]
        count, played = recordings.heard_by(self.core.units, contact, request.principal.id, self.core.sources.get)
        return self.qa.submit_evaluation(id=id, by=by, recordings=count, played=played, viewer=seen)

    @endpoint("POST", "/v1/evaluations/{id}/acknowledge", body=schemas.Act, answer=schemas.Evaluation, roles=("agent",), tag="quality")
    def post_acknowledge(self, request: Request) -> dict[str, Any]:
        """The agent has read it and lets it stand."""
        return self.qa.acknowledge_evaluation(id=request.parameters["id"], by=acting(request), viewer=viewer(self, request))

    @endpoint("POST", "/v1/evaluations/{id}/dispute", body=schemas.Dispute, answer=schemas.Evaluation, roles=("agent",), tag="quality")
    def post_dispute(self, request: Request) -> dict[str, Any]:
        """The agent says what is wrong with it, within 14 days."""
        id, reason = request.parameters["id"], request.body["reason"]
        return self.qa.dispute_evaluation(id=id, by=acting(request), reason=reason, viewer=viewer(self, request))

    @endpoint(
        "POST", "/v1/evaluations/{id}/second-opinion", body=schemas.SecondOpinion, answer=schemas.Evaluation, roles=OPERATING, tag="quality"
    )
    def post_second_opinion(self, request: Request) -> dict[str, Any]:
        """Somebody else looks at a disputed contact anew, without seeing the first one's marks."""
        id, evaluator = request.parameters["id"], request.body["evaluator"]
        return self.qa.ask_second_opinion(id=id, evaluator=evaluator, viewer=viewer(self, request))

    @endpoint("POST", "/v1/evaluations/{id}/close", body=schemas.Close, answer=schemas.Evaluation, roles=OPERATING, tag="quality")
    def post_close_evaluation(self, request: Request) -> dict[str, Any]:
        """Final: the first holds, or after a dispute the second opinion does, as somebody says who gave neither. What was not disputed is closed
        once its agent has acknowledged it."""
        told = {name: value for name, value in request.body.items() if name != "person"}
        by = request.principal.person or request.body["person"] or request.principal.name
        return self.qa.close_evaluation(id=request.parameters["id"], **told, by=by, viewer=viewer(self, request))

    # Findings

    @endpoint("POST", "/v1/findings", body=schemas.OpenFinding, answer=schemas.Finding, status=201, roles=EVALUATING, tag="quality")
    def post_finding(self, request: Request) -> dict[str, Any]:
        """What went wrong, its cause, and a plan with owner, date and check: all of it, or it is no finding. Where the cause is knowledge or training,
        training assigns the lesson."""
        if not (request.body["evaluation"] or (request.body["contact"] and request.body["scorecard"])):
            raise Invalid("say of which `evaluation`, or of which `contact` by which `scorecard`")
        named = request.body["contact"]
        told = {**request.body, "contact": handlers.find_contact(self.core.units, named)} if named else request.body
        return self.qa.open_finding(told=told, by=who(request), viewer=viewer(self, request))

    @endpoint("GET", "/v1/findings", query=schemas.Findings, answer=schemas.FindingPage, roles=CONCERNED, tag="quality")
    def get_findings(self, request: Request) -> dict[str, Any]:
        """Findings with their plans, the newest first. An agent sees those that concern them."""
        return self.qa.list_findings(filters=paged(request), viewer=viewer(self, request))

    @endpoint("GET", "/v1/findings/{id}", answer=schemas.Finding, roles=CONCERNED, tag="quality")
    def get_finding(self, request: Request) -> dict[str, Any]:
        """A finding, its plan, and the evidence that closed it."""
        return self.qa.get_finding(id=request.parameters["id"], viewer=viewer(self, request))

    @endpoint("PUT", "/v1/findings/{id}/plan", body=schemas.ChangePlan, answer=schemas.Finding, roles=EVALUATING, tag="quality")
    def put_plan(self, request: Request) -> dict[str, Any]:
        """Another plan for a finding; evidence counts from now on."""
        return self.qa.change_plan(id=request.parameters["id"], told=request.body, viewer=viewer(self, request))

    @endpoint("POST", "/v1/findings/{id}/close", body=schemas.CloseFinding, answer=schemas.Finding, roles=EVALUATING, tag="quality")
    def post_close_finding(self, request: Request) -> dict[str, Any]:
        """Close a plan by its evidence; 409 says what is missing. Evaluations and certificates close theirs without being asked."""
        id, document = request.parameters["id"], request.body["document"]
        return self.qa.close_finding(id=id, document=document, by=acting(request), viewer=viewer(self, request))

    # Surveys

    @endpoint("POST", "/v1/surveys", body=schemas.AnswerSurvey, answer=schemas.SurveyTaken, status=202, roles=TELLING, tag="surveys")
    def post_survey(self, request: Request) -> dict[str, Any]:
        """A customer's answer: satisfied from 1 to 5, whether it is resolved, in their own words. A later answer takes the place of an earlier one,
        as long as it is waited for; what comes after that is kept and in no figure."""
        told, now = request.body, clock.now()
        schemas.require_answer(told)
        contact, id = handlers.find_contact(self.core.units, told["contact"]), request.new_id()
        at = min(now, told["answered_at"] if told["answered_at"] is not None else now)
        with self.core.units() as work:
            handlers.announce_answer(work, id, contact, told, at)
        return {"answer": id, "contact": contact}

    @endpoint("GET", "/v1/surveys", query=schemas.Surveys, answer=schemas.SurveyPage, roles=EVALUATING, tag="surveys")
    def get_surveys(self, request: Request) -> dict[str, Any]:
        """Who was asked, and what they said, the newest first. An evaluator sees those of contacts that they have evaluated."""
        return self.qa.list_surveys(filters=paged(request), viewer=viewer(self, request))

    @endpoint("PUT", "/v1/survey-rules/{queue}", body=schemas.PutSurveyRule, answer=schemas.SurveyRule, roles=OPERATING, tag="surveys")
    def put_survey_rule(self, request: Request) -> dict[str, Any]:
        """Whom to ask after contacts of a queue (or `default`), how many of them, and how often at most. A webhook on qa.survey_asked does the asking."""
        return self.qa.put_survey_rule(queue=request.parameters["queue"], told=request.body)

    @endpoint("GET", "/v1/survey-rules/{queue}", answer=schemas.SurveyRule, roles=EVALUATING, tag="surveys")
    def get_survey_rule(self, request: Request) -> dict[str, Any]:
        """A queue's own rule, or `default`, which holds for the queues that have none."""
        return self.qa.get_survey_rule(queue=request.parameters["queue"])

    # Samples and automatic checks

    @endpoint("POST", "/v1/samples", body=schemas.DrawSample, answer=schemas.Sample, status=201, roles=OPERATING, tag="quality")
    def post_sample(self, request: Request) -> dict[str, Any]:
        """Choose contacts to evaluate: by chance within agent, channel and queue (new staff more), each with its probability, and beside them by risk.
        The same seed over the same contacts draws the same."""
        body = request.body
        told = {**{name: value for name, value in body.items() if name != "from_"}, "from": body["from_"]}
        return self.qa.draw_sample(told=told, by=who(request), viewer=viewer(self, request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/samples/{id}", answer=schemas.Sample, roles=OPERATING, tag="quality")
    def get_sample(self, request: Request) -> dict[str, Any]:
        """What was drawn, and what has been evaluated of it."""
        return self.qa.get_sample(id=request.parameters["id"], viewer=viewer(self, request))

    @endpoint("GET", "/v1/samples", query=schemas.ToDo, answer=schemas.ToDoPage, roles=EVALUATING, tag="quality")
    def get_to_do(self, request: Request) -> dict[str, Any]:
        """Contacts that were drawn for an evaluator and wait for them."""
        query, own = request.query, request.principal.person
        evaluator = query["evaluator"] or own
        if not evaluator:
            raise Invalid("say whose: `evaluator`")
        return self.qa.to_do(evaluator=evaluator, after=query["cursor"], limit=query["limit"], viewer=viewer(self, request))

    @endpoint("GET", "/v1/checks", answer=schemas.RuleSets, roles=EVALUATING, tag="quality")
    def get_checks(self, _request: Request) -> dict[str, Any]:
        """The sets of rules by which every contact is checked, and the rules that come with Answerline."""
        return self.qa.list_rules()

    @endpoint("PUT", "/v1/checks/{name}", answer=schemas.RuleSet, roles=OPERATING, tag="quality", takes=WRITTEN)
    def put_check(self, request: Request) -> dict[str, Any]:
        """A set of rules over facts and transcripts, as YAML or JSON: `library` names ready ones, `rules` are one's own."""
        return self.qa.put_rules(name=request.parameters["name"], document=text_of(request), by=request.principal.name)

    @endpoint("GET", "/v1/checks/{name}", answer=schemas.RuleSet, roles=EVALUATING, tag="quality")
    def get_check(self, request: Request) -> dict[str, Any]:
        """The set of rules in force."""
        return self.qa.get_rules(name=request.parameters["name"])

    # Calibrations, analyses, flags

    @endpoint(
        "POST", "/v1/calibrations", body=schemas.OpenCalibration, answer=schemas.Calibration, status=201, roles=OPERATING, tag="quality"
    )
    def post_calibration(self, request: Request) -> dict[str, Any]:
        """Several evaluators score the same contacts; each finds their drafts under /v1/evaluations, and sees no other's before the close."""
        contacts = [handlers.find_contact(self.core.units, contact) for contact in request.body["contacts"]]
        told = {**request.body, "contacts": contacts}
        return self.qa.open_calibration(told=told, by=who(request), viewer=viewer(self, request))

    @endpoint("GET", "/v1/calibrations", query=Page, answer=schemas.CalibrationPage, roles=EVALUATING, tag="quality")
    def get_calibrations(self, request: Request) -> dict[str, Any]:
        """Calibrations, the newest first: those in which one takes part, and for leads those of contacts that they see."""
        return self.qa.list_calibrations(after=request.query["cursor"], limit=request.query["limit"], viewer=viewer(self, request))

    @endpoint("GET", "/v1/calibrations/{id}", answer=schemas.Calibration, roles=EVALUATING, tag="quality")
    def get_calibration(self, request: Request) -> dict[str, Any]:
        """Who has submitted how many, and after the close Krippendorff's alpha of each criterion, each evaluator against the others, and drift."""
        return self.qa.get_calibration(id=request.parameters["id"], viewer=viewer(self, request))

    @endpoint("POST", "/v1/calibrations/{id}/close", takes=(), answer=schemas.Calibration, roles=OPERATING, tag="quality")
    def post_close_calibration(self, request: Request) -> dict[str, Any]:
        """Everybody sees everybody's marks from now on, and agreement is computed."""
        return self.qa.close_calibration(id=request.parameters["id"], by=who(request), viewer=viewer(self, request))

    @endpoint("POST", "/v1/analyses", body=schemas.AskAnalysis, answer=schemas.Analysis, status=202, roles=OPERATING, tag="quality")
    def post_analysis(self, request: Request) -> dict[str, Any]:
        """Ask for `validity` (which criteria serve customers), `calibration` (how far evaluators agree) or `gaming` over a time; it runs by itself."""
        body = request.body
        told = {**{name: value for name, value in body.items() if name != "from_"}, "from": body["from_"]}
        return self.qa.ask_analysis(told=told, by=who(request))

    @endpoint("GET", "/v1/analyses", query=schemas.Analyses, answer=schemas.AnalysisPage, roles=EVALUATING, tag="quality")
    def get_analyses(self, request: Request) -> dict[str, Any]:
        """Analyses without their results, the newest first; those that name people to leads alone, and of calibrations those whose session they see."""
        query, seen = request.query, viewer(self, request)
        return self.qa.list_analyses(
            kind=query["kind"], subject=query["scorecard"], after=query["cursor"], limit=query["limit"], viewer=seen
        )

    @endpoint("GET", "/v1/analyses/{id}", answer=schemas.Analysis, roles=EVALUATING, tag="quality")
    def get_analysis(self, request: Request) -> dict[str, Any]:
        """How far an analysis is, and what it found; one of gaming to leads alone, and of the queues in their sight; one of a calibration to those
        who see the calibration."""
        return self.qa.get_analysis(id=request.parameters["id"], viewer=viewer(self, request))

    @endpoint("GET", "/v1/flags", query=schemas.Flags, answer=schemas.FlagPage, roles=OPERATING, tag="quality")
    def get_flags(self, request: Request) -> dict[str, Any]:
        """Figures beyond what chance does to peers on the same queue: reasons to listen, no verdicts."""
        return self.qa.list_flags(filters=paged(request), viewer=viewer(self, request))

    @endpoint("POST", "/v1/flags/{id}/close", body=schemas.CloseFlag, answer=schemas.Flag, roles=OPERATING, tag="quality")
    def post_close_flag(self, request: Request) -> dict[str, Any]:
        """Somebody has listened to contacts of it, and says what they found."""
        told = {name: value for name, value in request.body.items() if name != "person"}
        return self.qa.close_flag(id=request.parameters["id"], told=told, by=acting(request))

    # Figures

    @endpoint("GET", "/v1/reports/quality", query=schemas.QualityFilters, answer=schemas.QualityReport, roles=OPERATING, tag="reports")
    def get_quality_report(self, request: Request) -> dict[str, Any]:
        """Internal and customer scores, automatic ones, and what customers said: side by side with their intervals, never averaged. With how many
        evaluations a mean needs to be known to ±`within`."""
        return self.qa.report_quality(filters=self._period(request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/reports/criteria", query=schemas.CriteriaFilters, answer=schemas.CriteriaReport, roles=OPERATING, tag="reports")
    def get_criteria_report(self, request: Request) -> dict[str, Any]:
        """Of one scorecard: each criterion's mean, and how often it was missed."""
        return self.qa.report_criteria(filters=self._period(request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/reports/surveys", query=schemas.SurveyFilters, answer=schemas.SurveyReport, roles=OPERATING, tag="reports")
    def get_survey_report(self, request: Request) -> dict[str, Any]:
        """Who was asked, who answered, and what they said, with intervals; also by whether self-service had failed first."""
        return self.qa.report_surveys(filters=self._period(request), deadline=REPORT_SECONDS)

    @endpoint(
        "GET", "/v1/reports/resolution", query=schemas.ResolutionFilters, answer=schemas.ResolutionReport, roles=OPERATING, tag="reports"
    )
    def get_resolution_report(self, request: Request) -> dict[str, Any]:
        """One-call resolution: a repeat contact about the same matter within `days` undoes it; contacts too recent to know stand apart."""
        return self.qa.report_resolution(filters=self._period(request), deadline=REPORT_SECONDS)

    @endpoint("GET", "/v1/reports/value", query=schemas.ValueFilters, answer=schemas.ValueReport, roles=OPERATING, tag="reports")
    def get_value_report(self, request: Request) -> dict[str, Any]:
        """Value created for each contact, with its interval, never a total; handle time beside it, to be seen and nobody's target."""
        return self.qa.report_value(filters=self._period(request), deadline=REPORT_SECONDS)

    def _period(self, request: Request) -> dict[str, Any]:
        queues = self.core.scopes.queues(request.principal)
        asked = {**{name: value for name, value in request.query.items() if name != "from_"}, "from": request.query["from_"]}
        asked["person"] = request.principal.person
        return asked if queues is None else {**asked, "queues": queues}


def viewer(doors: Doors, request: Request) -> dict[str, Any]:
    """Who looks, as qa wants to know it."""
    principal = request.principal
    alone = acts_alone(principal)
    return {
        "person": principal.person,
        "principal": principal.id,
        "role": role_of(request),
        "leads": not principal.person or leads(principal),
        "agent": alone,
        "queues": None if alone else doors.core.scopes.queues(principal),
    }


def role_of(request: Request) -> str:
    """The strongest role of a person; "" for a key."""
    return next((role for role in RANKS if role in request.principal.roles), "") if request.principal.person else ""


def who(request: Request) -> str:
    return request.principal.person or request.principal.name


def paged(request: Request) -> dict[str, Any]:
    return {**{name: value for name, value in request.query.items() if name != "cursor"}, "after": request.query["cursor"]}
