"""Connections that send nothing, or the head of a request byte by byte, or do not take their answer, are closed.

uvicorn waits for ever for the head of a request, and for a client to read; bodies have their time limit in
`service.http.BodyLimit`.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""How long a client may take from its connection, or its last request, to the end of a request's head."""

READ_SECONDS = 30.0
READ_BYTES = 30_000
"""What a client must take of an answer that waits for it, in each `READ_SECONDS`."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a time limit for heads and a least pace for answers."""

    _waiting: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # so that whatever waits to be sent is told of
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._rest()
        self._sent()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._send_on(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._sent()
        super().resume_writing()

    def _send_on(self, left: int) -> None:
        self._sending = self.loop.call_later(READ_SECONDS, self._check, left)

    def _check(self, before: int) -> None:
        """Give up where too little of the `before` bytes went out."""
        left = self.transport.get_write_buffer_size()
        if before - left < READ_BYTES:
            self._sending = None
            self.transport.abort()
        else:
            self._send_on(left)

    def _sent(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _watch(self) -> None:
        """Begin to count where a head is waited for, unless that is so already."""
        if self.conn.their_state is not h11.IDLE:
            self._rest()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._close)

    def _rest(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close(self) -> None:
        self._waiting = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
