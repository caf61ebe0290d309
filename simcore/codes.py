"""Integer codes shared by scenario, engines and tables. Every number here is part of the event log.

Kinds are listed in the order in which events at one instant run (DESIGN: a total order of events).
"""

from enum import IntEnum

#: Step number of the draws that belong to no step of an operation.
BORDER = 4095

#: Key of the rendezvous hashing that spreads cache keys over replicas.
CACHE_SALT = 0x6D656E64

#: Key of the draws that say which cache keys do not exist.
ABSENT_SALT = 0x616273


class Kind(IntEnum):
    """Kind of a calendar entry; the smallest of equal times runs first."""

    FAULT = 1  #: a modulation changes its value
    ACTION = 2  #: an action takes effect
    AUTOSCALE = 3  #: a service's autoscaler acts on the window just closed
    REPLICA = 4  #: a replica is killed, comes up, crashes, or ends its drain
    PROBE = 5  #: a service's health checks
    CPU = 6  #: the processor-sharing job of a span completes
    DELAY = 7  #: a delay step of a span ends
    REPLY = 8  #: a reply reaches the caller
    CANCEL = 9  #: an abandoned attempt is told to stop
    GRANT = 10  #: a reserved thread is handed to a queued span
    LOCK = 11  #: a lock is handed to a waiting span
    FLIGHT = 12  #: a span gets the value that another one has fetched
    POOL = 13  #: a connection is handed to a waiting attempt
    ARRIVE = 14  #: a span reaches a replica
    ROOT = 15  #: the workload offers a request
    RETRY = 16  #: a back-off ends
    HEDGE = 17  #: an attempt has taken so long that another one is sent beside it
    POOL_TIMEOUT = 18  #: an attempt has waited too long for a connection
    TIMEOUT = 19  #: a caller gives up on an attempt


class Event(IntEnum):
    """What a row of the event log says."""

    OFFERED = 1  #: a request reaches the border; aux = operation
    SHED = 2  #: a request is refused by ``limit_traffic``; aux = operation
    SENT = 3  #: an attempt is sent; aux = replica id, -1 if none is eligible
    ARRIVED = 4  #: a span is at its replica; aux = replica id
    REJECTED = 5  #: the queue is full; aux = replica id
    REFUSED = 6  #: the replica is not there; aux = replica id
    STARTED = 7  #: a span has its thread; aux = replica id
    CPU_DONE = 8  #: aux = step number
    DELAY_DONE = 9  #: aux = step number
    HIT = 10  #: a cache answers; aux = cache key
    MISS = 11  #: a cache has no live entry; aux = cache key
    FILLED = 12  #: an entry is written; aux = cache key
    FINISHED = 13  #: a span ends; aux = status
    REPLIED = 14  #: the reply reaches the caller; aux = status
    TIMED_OUT = 15  #: the caller gives up; aux = attempt
    BACKOFF = 16  #: the caller waits before a retry; aux = the failed attempt
    KILLED = 17  #: a span dies with its replica; aux = replica id
    REPLICA_UP = 18  #: span = replica id
    REPLICA_DOWN = 19  #: span = replica id; aux = cause (Down)
    REPLICA_DRAINING = 20  #: span = replica id
    REPLICA_GONE = 21  #: span = replica id; its drain is over
    FAULT_CHANGE = 22  #: span = modulation; aux = index of the change
    ACTION_DONE = 23  #: span = number of the action; aux = action code
    DENIED = 24  #: an attempt is not sent; aux = status
    POOLED = 25  #: an attempt waits for a connection; aux = callee's service
    GAVE_UP = 26  #: a failed attempt is not repeated though retries are left; aux = the failed attempt
    CANCELLED = 27  #: an abandoned attempt has stopped; aux = replica id
    LOST = 28  #: a message is lost; aux = 0 out, 1 back
    BLOCKED = 29  #: a span waits for a lock; aux = step number
    LOCKED = 30  #: a span has a lock; aux = step number
    DROPPED = 31  #: a queued span is thrown out; aux = replica id
    BREAKER = 32  #: span = the calling replica's id; aux = 4 * call site + state
    COLLECTION = 33  #: garbage collection begins; span = replica id; aux = bytes of garbage
    JOINED = 34  #: a span waits for another one to fetch the same cache key; aux = cache key
    SCALED = 35  #: the autoscaler acts; span = service, aux = replicas added (negative: taken away)
    PUBLISHED = 36  #: a message joins a partition of a topic; span = its key; aux = partition
    OVERFLOW = 37  #: a message finds its partition full; span = its key; aux = partition
    SKIPPED = 38  #: a message that is being redelivered is thrown out; span = its key; aux = partition
    REPLICA_ADDED = 39  #: a replica is made after the start; span = replica id; aux = service
    ROTATION = 40  #: health checks put a replica into rotation or take it out; span = replica id; aux = 1 in, 0 out


class Status(IntEnum):
    """How a span or an attempt ended."""

    OK = 0
    ERROR = 1  #: the span itself failed (fault, poisoned entry)
    DEPENDENCY = 2  #: a call of it failed after all its attempts
    REJECTED = 3  #: queue full
    REFUSED = 4  #: replica not there
    UNAVAILABLE = 5  #: no eligible replica
    RESET = 6  #: killed with its replica
    TIMEOUT = 7  #: the caller gave up
    POOL = 8  #: no connection: the pool's line was full or did not move
    OPEN = 9  #: the circuit breaker is open, or the service is shut off
    DEADLINE = 10  #: the request's deadline has passed


class Down(IntEnum):
    """Why a replica went down."""

    RESTART = 0
    CRASH = 1
    OOM = 2


class ReplicaState(IntEnum):
    """State of a replica."""

    STARTING = 0
    UP = 1
    DRAINING = 2
    GONE = 3


class Param(IntEnum):
    """A model parameter that a modulation scales or sets. Those marked x scale, the rest say what they do."""

    SPEED = 0  #: x speed of a replica
    CORES = 1  #: x cores of a replica (background load takes the rest)
    DEMAND = 2  #: x CPU demand of a replica's steps
    DELAY = 3  #: x delay steps of a replica
    NETWORK = 4  #: x network latency to and from a replica
    OK = 5  #: x probability that a span of a replica does not fail by itself
    TIMEOUT = 6  #: x timeout of the calls that a service makes
    LEAK = 7  #: + bytes that a finished span leaves behind
    CRASH = 8  #: seconds from start to crash, smallest positive one wins
    SURGE = 9  #: extra arrivals, as a share of the base rate
    FLUSH = 10  #: one shot: every cache entry of the replica is gone
    POISON = 11  #: one shot: a share of the resident entries turns wrong and never expires
    DEPLOY = 12  #: one shot: a new version, rolled out replica by replica
    CONFIG = 13  #: one shot: a change of configuration (a marker, seen by the agent)
    HOLD = 14  #: x CPU and delay steps inside a lock section of a replica
    POOL = 15  #: x size of the connection pools of a replica
    EDGE_DELAY = 16  #: x network latency between a caller's service and a callee's
    LOSS_OUT = 17  #: + probability that a message from caller to callee is lost
    LOSS_BACK = 18  #: + probability that a message from callee to caller is lost
    HOT_KEY = 19  #: + share of a cache's lookups that go to one key
    PILL = 20  #: one shot: the next message of a share of the consumer's partitions fails whenever it is delivered


#: Parameters of an edge between two services.
EDGE = frozenset({Param.EDGE_DELAY, Param.LOSS_OUT, Param.LOSS_BACK})


class Place(IntEnum):
    """Where a fault lives; replacing the place heals it (FIELD: fault catalogue)."""

    PROCESS = 0  #: processes that run at onset: gone from a replica once it restarts
    NODE = 1  #: the replica's node: stays through restarts
    VERSION = 2  #: the version current at onset: gone from a replica once it runs an older one
    CONFIG = 3  #: the configuration of the service: gone with a rollback
    CONTENT = 4  #: what a cache or a topic holds
    WORKLOAD = 5  #: the users
    OUTSIDE = 6  #: beyond the reach of every action but escalation
    QUOTA = 7  #: the service's resource limits: gone once they are raised
    CREDENTIAL = 8  #: certificates, tokens, names: gone once they are rotated


class ActionCode(IntEnum):
    """Actions as the engines know them."""

    NOOP = 0
    RESTART = 1  #: all replicas of a service, one after the other
    SCALE = 2  #: amount = replicas to add (negative: to drain)
    CLEAR_CACHE = 3
    LIMIT_TRAFFIC = 4  #: amount = admitted fraction
    QUARANTINE = 5  #: replica = ordinal within the service
    RELEASE = 6
    ROLLBACK = 7
    RETRY_BUDGET = 8  #: amount = fraction of the retries that a service's calls may make
    OPEN_BREAKER = 9  #: nobody calls the service
    CLOSE_BREAKER = 10
    RESIZE_POOL = 11  #: amount = multiple of the configured sizes of a service's pools
    CLEAR_QUEUE = 12  #: whatever queues for a thread of the service is rejected
    RAISE_LIMIT = 13  #: new resource limits for the service
    ROTATE = 14  #: new credentials for the service
    FAILOVER = 15  #: the service moves to other nodes, all replicas at once
    WARM_CACHE = 16  #: the most popular keys are loaded
    DEGRADE = 17  #: amount = 1: optional calls of the service are left out, 0: no longer
    ESCALATE = 18  #: somebody repairs whatever is broken
    SKIP_MESSAGE = 19  #: messages that a service fails to consume are thrown out
    REMOVE = 20  #: replica = number of a modulation: it ends, or never begins; no agent can do that


class Purpose(IntEnum):
    """What a draw decides; part of its key."""

    WORK = 0
    CHOICE = 1
    LATENCY_OUT = 2
    LATENCY_BACK = 3
    ERROR = 4
    JITTER = 5
    ADMIT = 6
    ARRIVAL = 7
    THIN = 8
    POPULARITY = 9
    POISON = 10
    CRASH = 11
    BALANCER = 12
    LOSS_OUT = 13
    LOSS_BACK = 14
    RETRY = 15


class Dist(IntEnum):
    """Distribution of a service demand, latency or gap; all have the stated mean."""

    CONSTANT = 0
    EXPONENTIAL = 1
    LOGNORMAL = 2
    GAMMA = 3


class StepCode(IntEnum):
    """Step of an operation."""

    CPU = 0
    DELAY = 1
    CALL = 2
    CACHED = 3
    LOCK = 4
    PARALLEL = 5
    PUBLISH = 6


class BalancerCode(IntEnum):
    """How a caller picks a replica."""

    ROUND_ROBIN = 0
    LEAST_OUTSTANDING = 1
    RANDOM = 2
    POWER_OF_TWO = 3


class DisciplineCode(IntEnum):
    """Which queued span gets a free thread."""

    FIFO = 0
    LIFO = 1  #: the newest one while the queue is long
    CODEL = 2  #: the oldest one; those that waited too long are dropped


class BreakerState(IntEnum):
    """State of a circuit breaker."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2
