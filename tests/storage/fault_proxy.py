"""A TCP proxy before an S3 server that does what networks do: cuts, stalls, and errors instead of answers."""

import asyncio
import threading
from types import TracebackType

CHUNK = 64 * 1024
IDLE_S = 0.2
"""A connection without traffic ends, so that clients keep making new ones, which are what is counted."""


class FaultProxy:
    """Use as a context manager; the faults may be changed at any time and count for new connections.

    Attributes:
        port: where it listens.
        cut_every: every so manyth connection is cut; 0: none.
        cut_after: bytes, both ways together, that such a connection lives for.
        stall_every, stall_s: every so manyth connection waits for so long before anything passes.
        connections, cuts, stalls, answered: how often each happened.
        bytes: that passed from the server to clients.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.cut_every, self.cut_after = 0, 20_000
        self.stall_every, self.stall_s = 0, 0.0
        self.connections = self.cuts = self.stalls = self.answered = self.bytes = 0
        self._target_port = target_port
        self._answer = b""
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def answer(self, status: int, code: str, header: str = "") -> None:
        """From now on every request gets this error; status 0 lets them pass again."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said the proxy</Message></Error>"
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{header}\r\n"
        self._answer = (head + body).encode() if status else b""
        self.cut_all()

    def cut_all(self) -> None:
        """Ends all connections that are open."""

        async def cut() -> None:
            for writer in list(self._open):
                writer.transport.abort()

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            if self._answer:
                await self._refuse(reader, writer)
                return
            if self.stall_every and number % self.stall_every == 0:
                self.stalls += 1
                await asyncio.sleep(self.stall_s)
            budget = self.cut_after if self.cut_every and number % self.cut_every == 0 else None
            await self._connect(reader, writer, budget)
        except (OSError, asyncio.CancelledError):  # the proxy ends
            pass
        finally:
            writer.close()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            return
        self.answered += 1
        writer.write(self._answer)
        await writer.drain()

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        life = _Life(budget)
        self._open |= {writer, back}
        pumps = [
            asyncio.create_task(self._pump(reader, back, life, counted=False)),
            asyncio.create_task(self._pump(there, writer, life, counted=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if life.over:
                self.cuts += 1
                writer.transport.abort()
        finally:
            self._open -= {writer, back}
            back.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, life: "_Life", counted: bool
    ) -> None:
        while True:
            try:
                chunk = await asyncio.wait_for(reader.read(CHUNK), IDLE_S)
            except TimeoutError:
                if life.idle():
                    return
                continue
            life.spend(len(chunk), from_server=counted)
            if not chunk or life.over:
                return
            writer.write(chunk)
            life.sending += 1
            await writer.drain()
            life.sending -= 1
            self.bytes += len(chunk) if counted else 0


class _Life:
    """How much longer a connection lives."""

    def __init__(self, budget: int | None) -> None:
        self.sending = 0
        self._budget = budget
        self._quiet = 0
        self._asked = True

    @property
    def over(self) -> bool:
        return self._budget is not None and self._budget <= 0

    def spend(self, count: int, from_server: bool) -> None:
        self._quiet = 0
        self._asked = not from_server
        if self._budget is not None:
            self._budget -= count

    def idle(self) -> bool:
        """Whether nobody said anything for a while after an answer; a server may think long before one."""
        self._quiet += 1
        return self._quiet >= 10 and not self._asked and not self.sending
