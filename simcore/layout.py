"""What machines run: a scenario as flat arrays (``Plan``) and the state of a run (``LANE`` and its arrays).

One structured array per thing. Kernels reach them through accessors such as ``span_at(lane, s)``: ``lane`` is a record
that holds addresses, so passing all the state to a function costs one pointer, and one run can be given more
room without touching another.
"""

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.eventlog import LOG
from simcore.jit import rows_of
from simcore.windows import END as END_RECORD
from simcore.windows import Tally

#: A time that never comes.
NEVER = 1e300

#: Priorities of requests, 0 the most important.
PRIORITIES = np.int64(10)

#: ``bad_to`` of a modulation that no rollback has ended.
NO_VERSION = 2**62

#: Key of the draws that say which cache keys do not exist.
ABSENT = 0x616273

Records = npt.NDArray[np.void]


class Need(IntFlag):
    """Which of its arrays a run has outgrown; one event may outgrow several."""

    NOTHING = 0
    SPANS = 1
    JOBS = 2
    ENDS = 4
    LOG = 8
    REPLICAS = 16
    CONTROL = 32
    MESSAGES = 64


SERVICE = np.dtype(
    [
        ("cores", "f8"), ("speed", "f8"), ("startup_s", "f8"), ("drain_s", "f8"), ("ttl_s", "f8"),
        ("base_bytes", "i8"), ("per_span_bytes", "i8"), ("limit_bytes", "i8"), ("leak_bytes", "i8"),
        ("threads", "i8"), ("queue", "i8"), ("balancer", "i8"), ("initial", "i8"),
        ("slots", "i8"), ("n_keys", "i8"), ("first_seed", "i8"), ("n_seeds", "i8"),
        ("plain", "i8"),  # queues first come first served, sheds nothing, collects no garbage
    ],
    align=True,
)  # fmt: skip
#: How a service's replicas queue, warm up, collect garbage, are checked, cache and scale; a length of 0 where not.
RULES = np.dtype(
    [
        ("discipline", "i8"), ("lifo_above", "i8"), ("target_s", "f8"), ("interval_s", "f8"),
        ("warmup_s", "f8"), ("warmup_factor", "f8"),
        ("collects", "i8"), ("garbage_bytes", "i8"), ("least_bytes", "i8"), ("share", "f8"),
        ("pause_s", "f8"), ("pause_s_per_gb", "f8"),
        ("probe_s", "f8"), ("unhealthy_after", "i8"), ("healthy_after", "i8"),
        ("negative_ttl_s", "f8"), ("copies", "i8"),
        ("target", "f8"), ("tolerance", "f8"), ("every_steps", "i8"), ("stabilisation_steps", "i8"),  # of an autoscaler
        ("least", "i8"), ("most", "i8"),  # replicas
    ],
    align=True,
)  # fmt: skip
#: The longest queue at which an arrival of a priority is not shed, -1: it never is.
SHED = np.dtype([("above", "i8")], align=True)
STEP = np.dtype(
    [
        ("mean", "f8"),
        ("shape", "f8"),
        ("kind", "i8"),
        ("dist", "i8"),
        ("number", "i8"),
        ("site", "i8"),
        ("after", "i8"),
        ("lock", "i8"),  # the serial section that the step opens, closes or lies in, -1: none
    ],
    align=True,
)
SITE = np.dtype(
    [
        ("probability", "f8"), ("timeout_s", "f8"), ("backoff_s", "f8"), ("backoff_limit_s", "f8"), ("jitter", "f8"),
        ("net_mean", "f8"), ("net_shape", "f8"), ("net_dist", "i8"), ("service", "i8"), ("first", "i8"),
        ("operation", "i8"), ("retries", "i8"), ("required", "i8"), ("ring", "i8"), ("cached", "i8"),
        ("key_offset", "i8"), ("table", "i8"), ("table_n", "i8"),
        ("depth", "i8"),  # how many cached steps the site lies in
        ("absent", "f8"), ("replicated", "i8"), ("coalesces", "i8"),
        ("special", "i8"),  # whether its fills are more than one entry of one replica
        ("plain", "i8"),  # nothing of ``GATE`` concerns its calls
    ],
    align=True,
)  # fmt: skip
#: What a call site has beside the call itself. ``breaker``, ``budget`` and ``pool`` are numbers among those of the
#: calling replica, -1: none; ``branches`` are those of the parallel step whose first branch the site is.
GATE = np.dtype(
    [
        ("caller", "i8"), ("loss", "f8"), ("cancellable", "i8"), ("hedges", "i8"), ("hedge_after_s", "f8"),
        ("branch", "i8"), ("branches", "i8"), ("fail_fast", "i8"),
        ("breaker", "i8"), ("window", "i8"), ("min_calls", "i8"), ("failure_rate", "f8"), ("open_s", "f8"),
        ("probes", "i8"),
        ("budget", "i8"), ("rate_per_s", "f8"), ("burst", "f8"),
        ("pool", "i8"), ("size", "f8"), ("line", "i8"), ("wait_s", "f8"),
        ("topic", "i8"),  # to which the site publishes, -1: it calls
    ],
    align=True,
)  # fmt: skip
#: A topic: its partitions among those of all topics, how many messages each may hold, and the service that consumes.
TOPIC = np.dtype([("first", "i8"), ("partitions", "i8"), ("limit", "i8"), ("service", "i8")], align=True)
ALIAS = np.dtype([("accept", "f8"), ("alias", "i4")], align=True)
SEED_KEY = np.dtype([("key", "i4"), ("copies", "i4")], align=True)
ENTRY_CLASS = np.dtype(
    [
        ("cumulative", "f8"),
        ("operation", "i8"),
        ("service", "i8"),
        ("first", "i8"),
        ("priority", "i8"),
        ("cancellable", "i8"),
    ],
    align=True,
)
#: From ``time`` on, the rate is so many times the base rate.
POINT = np.dtype([("time", "f8"), ("factor", "f8")], align=True)
PLAN = np.dtype(
    [
        ("services", "i8"), ("rules", "i8"), ("sheds", "i8"), ("steps", "i8"), ("sites", "i8"), ("aliases", "i8"),
        ("seeds", "i8"), ("classes", "i8"),
        ("start_s", "f8"), ("step_s", "f8"), ("latency_s", "f8"), ("client_timeout_s", "f8"), ("rate_rps", "f8"),
        ("top", "f8"), ("a", "f8"), ("b", "f8"), ("c", "f8"), ("net_mean", "f8"), ("net_shape", "f8"),
        ("net_dist", "i8"), ("shape", "i8"), ("n_services", "i8"), ("n_rings", "i8"),
        ("slots_max", "i8"),
        ("n_classes", "i8"),
        ("gates", "i8"), ("deadline_s", "f8"),
        ("points", "i8"), ("n_points", "i8"),  # of a recorded series, else none
        ("n_users", "i8"), ("think_mean", "f8"), ("think_shape", "f8"), ("think_dist", "i8"),
        ("wishes_wide", "i8"),  # of an autoscaler, that it has to remember; 0: there is none
        ("n_sites", "i8"), ("n_locks", "i8"),
        ("breakers_wide", "i8"), ("window_wide", "i8"), ("budgets_wide", "i8"), ("pools_wide", "i8"),  # of a replica
        ("plain", "i8"),  # neither a deadline nor a cancellable entry
        ("cancels", "i8"), ("span_room", "i8"), ("log_room", "i8"), ("message_room", "i8"),  # what one event may take
        ("topics", "i8"), ("n_topics", "i8"), ("n_partitions", "i8"), ("skips", "i8"),  # ... of one service
        ("pill", "i8"),  # where the program of a delivery that must fail begins
    ],
    align=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled scenario; the same for every run. ``head`` holds what is single, and where the arrays are."""

    head: Records  #: (1,) PLAN
    services: Records  #: (service,) SERVICE
    rules: Records  #: (service,) RULES
    sheds: Records  #: (service * PRIORITIES,) SHED
    steps: Records  #: (pc,) STEP, operations one after the other, each closed by an END step
    sites: Records  #: (site,) SITE
    aliases: Records  #: (entry,) ALIAS, popularity tables one after the other
    seeds: Records  #: (entry,) SEED_KEY: a cache's keys in order of popularity, caches one after the other
    classes: Records  #: (class,) ENTRY_CLASS
    gates: Records  #: (site,) GATE
    points: Records  #: (point,) POINT
    topics: Records  #: (topic,) TOPIC


service_at = rows_of(SERVICE, "services")
rules_at = rows_of(RULES, "rules")
shed_at = rows_of(SHED, "sheds")
step_at = rows_of(STEP, "steps")
site_at = rows_of(SITE, "sites")
alias_at = rows_of(ALIAS, "aliases")
seed_at = rows_of(SEED_KEY, "seeds")
class_at = rows_of(ENTRY_CLASS, "classes")
gate_at = rows_of(GATE, "gates")
point_at = rows_of(POINT, "points")
topic_at = rows_of(TOPIC, "topics")

#: Step kinds that only the plan knows: write the key of a cached step; end of an operation; end of a serial section;
#: lead a coalesced miss or wait for the one who does; fail, being the delivery of a pill.
FILL, END, UNLOCK, BOARD, FAIL = 16, 17, 18, 19, 20

#: An attempt, and the span that it becomes. Free records are chained through ``q_next``. Record ``i`` below the number
#: of timer rings is no span: it is both ends of ring ``i``, of which ring 0 is the clients'.
SPAN = np.dtype(
    [
        ("key", "u8"), ("request", "i8"), ("priority", "i8"),
        ("sent", "f8"), ("arrived", "f8"),  # the attempt at the caller, the span at its replica
        ("parent", "i8"),  # the calling span, CLIENT or NOBODY; below them the partition that delivers
        ("child", "i8"),  # the attempt that this span waits for
        ("site", "i8"), ("attempt", "i8"), ("service", "i8"), ("replica", "i8"),  # -1: a root; not placed
        ("pc", "i8"), ("state", "i8"), ("status", "i8"),
        ("heap_at", "i8"),  # where its calendar entry is, -1: it has none
        ("expires", "f8"), ("ring", "i8"), ("t_prev", "i8"), ("t_next", "i8"),  # the caller's timer, in its ring
        ("q_prev", "i8"), ("q_next", "i8"),  # the queue for a thread
        ("cache_key", "i8"), ("answer", "i8"),  # of a lookup
        ("hot", "i8"),  # bit ``depth`` of a cached step that the span is in: whether it reads the hot key
        ("counted", "i8"),  # whether a root was counted as bad
        ("deadline", "f8"), ("cancellable", "i8"),  # of a root: whether it is cancelled when its client gives up
        ("sibling", "i8"),  # the next attempt that the same span waits for
        ("hedge", "i8"),  # the record of the hedge that is due if this attempt takes too long, -1: none
        ("pool", "i8"), ("epoch", "i8"),  # whose slot it waits for or has; that of the breaker that it passed; -1: none
        ("lock", "i8"), ("failing", "i8"),  # that it waits for or holds; whether a required branch has failed
    ],
    align=True,
)  # fmt: skip
HEAP = np.dtype([("time", "f8"), ("key", "u8"), ("kind", "i8"), ("span", "i8")], align=True)
JOB = np.dtype([("end", "f8"), ("key", "u8"), ("span", "i8")], align=True)  # end: in virtual time
LEAF = np.dtype([("time", "f8")], align=True)
#: The first of eight leaves, and whether another has the same time.
GROUP = np.dtype([("time", "f8"), ("leaf", "i8"), ("tied", "i8")], align=True)
#: A fault, an action, or an event of a replica: ``index`` is the change, the action or the replica.
CONTROL = np.dtype(
    [
        ("time", "f8"), ("key", "u8"), ("attempt", "i8"), ("kind", "i8"),
        ("what", "i8"), ("index", "i8"), ("incarnation", "i8"),
    ],
    align=True,
)  # fmt: skip
REPLICA = np.dtype(
    [
        ("v", "f8"), ("vt", "f8"),  # virtual time, and the instant at which it was that
        ("rate", "f8"), ("pace", "f8"), ("alone_pace", "f8"),  # per job; 1 / rate; 1 / speed
        ("n_jobs", "i8"), ("threads", "i8"),  # on the CPU; granted and reserved
        ("in_flight", "i8"), ("outstanding", "i8"),  # spans here; attempts that callers wait for
        ("queued", "i8"), ("q_head", "i8"), ("q_tail", "i8"), ("last_empty", "f8"), ("flights", "i8"),
        ("rotates", "i8"), ("passed", "i8"), ("missed", "i8"),  # whether the balancer sends to it; checks in a row
        ("warming", "i8"), ("came_up", "f8"), ("collecting", "i8"), ("garbage", "i8"),
        ("service", "i8"), ("state", "i8"), ("quarantined", "i8"), ("next", "i8"), ("shard", "i8"),
        ("speed", "f8"), ("cores", "f8"), ("demand", "f8"), ("delay", "f8"), ("network", "f8"), ("ok", "f8"),
        ("timeout", "f8"), ("leak", "i8"), ("crash", "f8"),  # effective values
        ("busy", "f8"), ("busy_since", "f8"), ("busy_acc", "f8"),  # levels and their integrals
        ("flight_since", "f8"), ("flight_acc", "f8"), ("queue_since", "f8"), ("queue_acc", "f8"),
        ("up_since", "f8"), ("up_acc", "f8"),
        ("latency_sum", "f8"), ("finished", "i8"),  # in the present window
        ("leaked", "i8"), ("born", "f8"), ("version", "i8"), ("incarnation", "i8"), ("crashes", "i8"),
        ("ordinal", "i8"), ("entries", "i8"), ("oom", "i8"),  # control entries made; whether a kill is pending
        ("hold", "f8"), ("pool", "f8"),  # effective values
        ("waiting", "i8"), ("waiting_since", "f8"), ("waiting_acc", "f8"),  # attempts in the lines of its pools
    ],
    align=True,
)  # fmt: skip
#: An arrival stream; ``n`` is the candidate that comes at ``time``, ``gap`` is negative for arrivals on a grid.
STREAM = np.dtype(
    [
        ("time", "f8"), ("first_s", "f8"), ("key", "u8"), ("root", "u8"), ("n", "i8"), ("gap", "f8"), ("peak", "f8"),
        ("value", "f8"),
    ],
    align=True,
)  # fmt: skip
#: A modulation; ``begun`` and ``over`` are flags, ``stream`` is that of a surge.
MOD = np.dtype(
    [
        ("value", "f8"), ("since", "f8"), ("param", "i8"), ("place", "i8"), ("service", "i8"), ("replica", "i8"),
        ("begun", "i8"), ("over", "i8"), ("bad_from", "i8"), ("bad_to", "i8"), ("stream", "i8"), ("peer", "i8"),
    ],
    align=True,
)  # fmt: skip
CHANGE = np.dtype([("time", "f8"), ("value", "f8"), ("mod", "i8")], align=True)
ACTION = np.dtype([("amount", "f8"), ("code", "i8"), ("service", "i8"), ("replica", "i8")], align=True)
#: A cache's entries in order of use: ``head`` is the most recent; ``used`` slots were ever taken, ``free`` chains the
#: vacant ones among them.
SHARD = np.dtype([("head", "i8"), ("tail", "i8"), ("used", "i8"), ("free", "i8")], align=True)
SLOT = np.dtype([("expiry", "f8"), ("key", "i4"), ("prev", "i4"), ("next", "i4"), ("poisoned", "i4")], align=True)
WHERE = np.dtype([("slot", "i4")], align=True)  # of a cache key, -1: it is not there
STACK = np.dtype([("version", "i8")], align=True)
#: The replicas of a service, chained through ``next``; ``last`` was round robin's choice, ``marks`` counts changes.
FLEET = np.dtype(
    [
        ("last", "i8"), ("first", "i8"), ("tail", "i8"), ("ordinals", "i8"),
        ("version", "i8"), ("newest", "i8"), ("depth", "i8"), ("marks", "i8"),
        ("used", "f8"),  # CPU utilisation of the window on which the autoscaler acts
        ("degraded", "i8"),  # whether calls that are not required are left out
        ("shut", "i8"), ("retry", "f8"), ("pool", "f8"),  # what actions have set: shut off, retry fraction, pool amount
        ("lag", "i8"), ("lag_since", "f8"), ("lag_acc", "f8"),  # messages on the partitions that it consumes
    ],
    align=True,
)  # fmt: skip
#: Circuit breaker of a replica and call site. ``passed`` and ``good`` count the probes of the present epoch; the
#: outcomes that it remembers are ``held`` ones before ``next`` in its ring, of which ``failures`` failed.
BREAKER = np.dtype(
    [
        ("until", "f8"), ("state", "i8"), ("epoch", "i8"), ("held", "i8"), ("next", "i8"), ("failures", "i8"),
        ("passed", "i8"), ("good", "i8"),
    ],
    align=True,
)  # fmt: skip
OUTCOME = np.dtype([("failed", "i4")], align=True)
BUDGET = np.dtype([("tokens", "f8"), ("since", "f8")], align=True)
#: Connections of a replica to another service: ``size`` as configured, ``used`` ones, and those kept for attempts that
#: have just left the line.
POOL = np.dtype(
    [("size", "f8"), ("used", "i8"), ("reserved", "i8"), ("waiting", "i8"), ("head", "i8"), ("tail", "i8")], align=True
)
#: A serial section: the span that is in it, -1: none, and the line before it.
LOCK = np.dtype([("holder", "i8"), ("head", "i8"), ("tail", "i8")], align=True)
#: A message, from its publication until it is done; there may be very many. ``key`` is that of the publishing span,
#: ``next`` the one behind it on its partition, or the next free record.
MESSAGE = np.dtype(
    [("key", "u8"), ("request", "i8"), ("next", "i4"), ("site", "i4"), ("priority", "i1"), ("pill", "i1")], align=True
)
#: A line of ``n`` messages, of which the head is under way as span ``delivery``; whether the next one will be a pill.
PARTITION = np.dtype([("head", "i8"), ("tail", "i8"), ("n", "i8"), ("delivery", "i8"), ("armed", "i8")], align=True)
#: How many replicas an autoscaler wanted at an edge.
WISH = np.dtype([("step", "i8"), ("replicas", "i8")], align=True)

TALLY = np.dtype([(tally.name.lower(), "i8") for tally in Tally], align=True)

#: State of a run that is single, the addresses of its arrays (named as in ``ARRAYS``) and their lengths.
LANE = np.dtype(
    [
        ("spans", "i8"), ("heap", "i8"), ("jobs", "i8"), ("replicas", "i8"), ("leaf", "i8"), ("group", "i8"),
        ("control", "i8"),
        ("streams", "i8"), ("mods", "i8"), ("changes", "i8"), ("actions", "i8"), ("fleets", "i8"),
        ("stacks", "i8"), ("shards", "i8"), ("slots", "i8"), ("where", "i8"), ("ends", "i8"), ("scratch", "i8"),
        ("tally", "i8"), ("log", "i8"),
        ("pools", "i8"), ("breakers", "i8"), ("outcomes", "i8"), ("budgets", "i8"), ("locks", "i8"), ("wishes", "i8"),
        ("messages", "i8"), ("partitions", "i8"),
        ("plain", "i8"),  # whether nothing in force concerns all calls: a deadline, an edge's fault, an action
        ("edges", "i8"), ("span_room", "i8"), ("log_room", "i8"), ("cancels", "i8"),
        ("now", "f8"), ("admitted", "f8"), ("phase", "f8"), ("key", "u8"), ("window", "i8"), ("events", "i8"),
        ("crowded", "i8"), ("tied", "i8"), ("n_log", "i8"),
        ("hot_keys", "i8"), ("degraded", "i8"),  # whether the run has a hot key, whether any service was ever degraded
        ("need", "i8"), ("log_on", "i8"), ("free_span", "i8"), ("n_free", "i8"), ("n_heap", "i8"), ("n_control", "i8"),
        ("log_key", "u8"), ("log_share", "f8"),  # which requests are in the log
        ("n_replicas", "i8"), ("n_shards", "i8"), ("n_streams", "i8"), ("n_mods", "i8"), ("n_changes", "i8"),
        ("n_ends", "i8"), ("n_messages", "i8"),
        ("free_message", "i8"), ("used_messages", "i8"), ("message_room", "i8"),  # of all, so many were ever taken
        ("first_replica_leaf", "i8"), ("per_replica", "i8"), ("groups", "i8"), ("keys_wide", "i8"),
        ("slots_wide", "i8"), ("stack_wide", "i8"),
        ("span_cap", "i8"), ("end_cap", "i8"), ("log_cap", "i8"), ("replica_cap", "i8"), ("control_cap", "i8"),
        ("message_cap", "i8"),
    ],
    align=True,
)  # fmt: skip

#: Arrays of a run: name of the address in ``LANE`` -> what an element is.
ARRAYS: dict[str, Any] = {
    "spans": SPAN,  #: (span_cap,)
    "heap": HEAP,  #: (span_cap,) an entry at most per span
    "jobs": JOB,  #: (replica_cap * per_replica,) a heap per replica
    "replicas": REPLICA,  #: (replica_cap,)
    "leaf": LEAF,  #: (8 * groups,) the next time of every event source
    "group": GROUP,  #: (groups,) the first of eight sources
    "control": CONTROL,  #: (control_cap,) the heap of faults, actions and replica events
    "streams": STREAM,  #: (stream,)
    "mods": MOD,  #: (modulation,)
    "changes": CHANGE,  #: (change,)
    "actions": ACTION,  #: (action,)
    "fleets": FLEET,  #: (service,)
    "stacks": STACK,  #: (service * stack_wide,) versions
    "shards": SHARD,  #: (shard,)
    "slots": SLOT,  #: (shard * slots_wide,)
    "where": WHERE,  #: (shard * keys_wide,)
    "ends": END_RECORD,  #: (end_cap,)
    "scratch": np.dtype(np.float64),  #: (end_cap,)
    "tally": TALLY,  #: (service + 1,)
    "log": LOG,  #: (log_cap,)
    "pools": POOL,  #: (replica_cap * pools_wide,)
    "breakers": BREAKER,  #: (replica_cap * breakers_wide,)
    "outcomes": OUTCOME,  #: (replica_cap * breakers_wide * window_wide,) a ring per breaker
    "budgets": BUDGET,  #: (replica_cap * budgets_wide,)
    "locks": LOCK,  #: (lock,)
    "wishes": WISH,  #: (service * wishes_wide,) a ring per service
    "messages": MESSAGE,  #: (message_cap,)
    "partitions": PARTITION,  #: (partition,)
}

#: Arrays with a fixed number of elements per replica: name -> fields of ``PLAN`` whose product it is.
PER_REPLICA = {
    "pools": ("pools_wide",),
    "breakers": ("breakers_wide",),
    "outcomes": ("breakers_wide", "window_wide"),
    "budgets": ("budgets_wide",),
}

span_at = rows_of(SPAN, "spans")
heap_at = rows_of(HEAP, "heap")
job_at = rows_of(JOB, "jobs")
replica_at = rows_of(REPLICA, "replicas")
leaf_at = rows_of(LEAF, "leaf")
group_at = rows_of(GROUP, "group")
control_at = rows_of(CONTROL, "control")
stream_at = rows_of(STREAM, "streams")
mod_at = rows_of(MOD, "mods")
change_at = rows_of(CHANGE, "changes")
action_at = rows_of(ACTION, "actions")
fleet_at = rows_of(FLEET, "fleets")
stack_at = rows_of(STACK, "stacks")
shard_at = rows_of(SHARD, "shards")
slot_at = rows_of(SLOT, "slots")
where_at = rows_of(WHERE, "where")
end_at = rows_of(END_RECORD, "ends")
tally_at = rows_of(TALLY, "tally")
log_at = rows_of(LOG, "log")
pool_at = rows_of(POOL, "pools")
breaker_at = rows_of(BREAKER, "breakers")
outcome_at = rows_of(OUTCOME, "outcomes")
budget_at = rows_of(BUDGET, "budgets")
lock_at = rows_of(LOCK, "locks")
wish_at = rows_of(WISH, "wishes")
message_at = rows_of(MESSAGE, "messages")
partition_at = rows_of(PARTITION, "partitions")
