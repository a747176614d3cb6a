"""How much a peer may cost the service: every number in one place, seconds and bytes.

Who is neither owner nor root has half of the connections, the streams and the places in a queue.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What holds for every connection, request and answer.

    Attributes:
        body_bytes: Of a request's body.
        calls: How many calls run at once; four times as many may be open.
        head_bytes: Of a request's first line and headers.
        head_s: Until these are there, from the connection or the first byte on.
        body_s: Until the body is there.
        idle_s: Between requests of a connection; and until an answer is read.
        queue_s: How long a request waits for a thread.
        read_s: How long looking something up may take.
        update_s: How long an update may take.
        stream_s: How long a stream lasts; its reader asks again by the last number.
        beat_s: Between signs of life in a stream.
        drain_s: How long requests go on when the service stops.
        connections: At once.
        streams: At once.
        readers: How many look-ups run at once; and, beside them, how many streams are read for.
        updates: How many updates run at once.
    """

    body_bytes: int = 1 << 20
    calls: int = 16
    head_bytes: int = 1 << 16
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 30.0
    queue_s: float = 10.0
    read_s: float = 60.0
    update_s: float = 3_600.0
    stream_s: float = 3_600.0
    beat_s: float = 15.0
    drain_s: float = 10.0
    connections: int = 128
    streams: int = 32
    readers: int = 4
    updates: int = 2
