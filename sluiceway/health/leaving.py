"""Judging what carries changes out, and the database everything rests on."""

from sluiceway.health.contracts import Finding, Stage
from sluiceway.health.view import View, alarm, by, figure, unknown, warn
from sluiceway.health.words import count, duration, percent

LIVE_LATE_S = 2.0
OUTBOX_LATE_S = 60.0
OUTBOX_VERY_LATE_S = 600.0
SLOW_ANSWER_S = 0.5
CONNECTIONS_WARNING = 0.75
CONNECTIONS_CRITICAL = 0.9


def live(view: View) -> Stage:
    clients = view.now.total("sluiceway_live_clients")
    delay = view.mean("sluiceway_live_delivery_seconds")
    missed = view.grown("sluiceway_live_missed_total")
    findings: list[Finding] = []
    if view.now.state_of("web", "listening") is False:
        findings.append(
            Finding(
                "critical" if clients else "warning",
                f"The web process does not hear of new rows; {count(clients, 'open stream')} stand still.",
                "It listens again by itself once the database answers; streams then go on without a gap.",
            )
        )
    if missed:
        findings.append(
            warn(
                f"{count(missed, 'stream')} could not keep up within the last minute and had to read anew.",
                "Mostly a client on a slow line, or a page that sleeps; nothing is lost for it.",
            )
        )
    if delay is not None and delay > LIVE_LATE_S:
        findings.append(
            warn(
                f"A change takes {duration(delay)} from its commit to the streams.",
                "The web process has too much to do: look at its processor below, or start another one.",
            )
        )
    figures = [
        figure("clients", "Open streams", clients, "count"),
        figure("delay", "Delay", delay, "seconds"),
        figure("commits", "Commits heard of", view.rate("sluiceway_live_notifications_total"), "per_s"),
    ]
    about = "Dashboards and other systems hear of every commit at once."
    return view.stage("live", "Live", about, figures, findings, "commits")


def delivery(view: View) -> Stage:
    found = view.now.database
    oldest = None if found is None else view.age_s(found.outbox_oldest) or 0.0
    findings: list[Finding] = []
    silence = view.silence("worker")
    if found is None or oldest is None:
        findings.append(unknown("What waits to be delivered cannot be told while the database is away."))
    elif found.outbox_given_up:
        findings.append(
            alarm(
                f"{count(found.outbox_given_up, 'message')} of topic {found.outbox_topic} failed twenty times"
                " and will not be tried again.",
                "app.outbox keeps them with their error (`sluiceway psql`); attempts = 0 tries them again.",
            )
        )
    elif silence is not None and oldest > OUTBOX_LATE_S:
        findings.append(
            Finding(
                by(OUTBOX_VERY_LATE_S, oldest),
                f"{count(found.outbox_waiting, 'message')} wait for up to {duration(oldest)}: the worker"
                f" delivers them, and {silence}.",
                "Start it: `sluiceway process worker`. Nothing is lost.",
            )
        )
    elif oldest > OUTBOX_LATE_S:
        failing = (
            f"; {count(found.outbox_failing, 'message')} failed, most of topic {found.outbox_topic}"
            if found.outbox_failing
            else ""
        )
        findings.append(
            Finding(
                by(OUTBOX_VERY_LATE_S, oldest),
                f"{count(found.outbox_waiting, 'message')} wait for up to {duration(oldest)}{failing}.",
                "The worker's log names what fails; each is tried again, ever more seldom.",
            )
        )
    figures = [
        figure("waiting", "Waiting", None if found is None else found.outbox_waiting, "count"),
        figure("oldest", "Oldest", oldest, "seconds"),
        figure("failing", "Failing", None if found is None else found.outbox_failing, "count"),
        figure("done", "Delivered", view.rate("sluiceway_outbox_messages_total", result="done"), "per_s"),
    ]
    about = "What must happen after a commit: replays, rebuilt gold, messages to other systems."
    return view.stage("delivery", "Delivery", about, figures, findings, "waiting")


def database(view: View) -> Stage:
    found = view.now.database
    findings: list[Finding] = []
    if found is None:
        findings.append(
            alarm(
                f"The database does not answer: {view.now.database_error or 'no reason was told'}.",
                "Start it, or mend the way to it (SLUICEWAY_DATABASE_URL). Events are accepted meanwhile as"
                " long as the spool has room; loading goes on by itself.",
            )
        )
    elif view.stuck_s is not None:
        findings.append(
            alarm(
                f"The database has not answered a question for {duration(view.stuck_s)}.",
                "Look for what holds it up: locks, its disk, its log.",
            )
        )
    else:
        used = found.connections / found.max_connections
        if used >= CONNECTIONS_WARNING:
            findings.append(
                Finding(
                    by(CONNECTIONS_CRITICAL, used),
                    f"{percent(used)} of the database's {found.max_connections} connections are taken.",
                    "Raise max_connections, or end what holds them (pg_stat_activity names it).",
                )
            )
        if found.answer_s > SLOW_ANSWER_S:
            findings.append(
                warn(
                    f"The database took {duration(found.answer_s)} for a question that needs a few ms.",
                    "Look at its processor and disk, and for long-running statements.",
                )
            )
    figures = [
        figure("answer", "Answers in", None if found is None else found.answer_s, "seconds"),
        figure("connections", "Connections", None if found is None else found.connections, "count"),
        figure("most", "At most", None if found is None else found.max_connections, "count"),
    ]
    about = "PostgreSQL holds rows, samples, gold, the catalog and who may see what."
    return view.stage("database", "Database", about, figures, findings, "answer")
