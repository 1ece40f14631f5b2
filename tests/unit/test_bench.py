"""The bench: what redis-benchmark prints, medians and ratios, transactions like Nautilus', positions counted."""

from __future__ import annotations

import socket
import threading

import hiredis
import pytest

from drills.bench import batches, redis_benchmark
from drills.bench.failovers import Writer, count
from drills.bench.results import Results
from drills.bench.samples import Cell, Latency, NoDataError, Sample, latency, median, median_sample, percentile, ratio
from drills.bench.throughput import in_turn
from drills.bench.wire import first_error, read, transaction

_CSV = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"\n'
    '"SET","41322.31","0.412","0.104","0.391","0.615","0.871","2.607"\n'
)


class TestRedisBenchmark:
    def test_row_of_the_operation(self) -> None:
        assert redis_benchmark.parse(_CSV, "SET") == (41322.31, Latency(0.391, 0.615, 0.871))

    def test_warnings_before_the_rows_are_passed_over(self) -> None:
        assert redis_benchmark.parse(f"WARNING: Could not fetch server CONFIG\n{_CSV}", "SET")[0] == 41322.31

    @pytest.mark.parametrize(
        "output", ["", "Could not connect to Redis", _CSV.splitlines()[0], _CSV.replace("SET", "GET")]
    )
    def test_no_row_is_no_data(self, output: str) -> None:
        with pytest.raises(NoDataError, match="no data"):
            redis_benchmark.parse(output, "SET")

    def test_a_rate_of_nothing_is_no_data(self) -> None:
        with pytest.raises(NoDataError):
            redis_benchmark.parse(_CSV.replace("41322.31", "0.00"), "SET")

    def test_a_run_too_short_for_its_clock_is_no_data(self) -> None:
        with pytest.raises(redis_benchmark.TooShortError, match="no data"):
            redis_benchmark.parse(_CSV.replace("41322.31", "inf"), "SET")

    def test_error_replies_are_no_requests(self) -> None:
        with pytest.raises(RuntimeError, match="READONLY"):
            redis_benchmark.parse(f"Error from server: READONLY You can't write\n{_CSV}", "SET")

    def test_command_line(self) -> None:
        line = " ".join(redis_benchmark.arguments(Cell("RPUSH", 16, 20), "127.0.0.1", 7379, 1000))
        assert line == "redis-benchmark -h 127.0.0.1 -p 7379 -t rpush -c 20 -P 16 -n 1000 -r 10000 --csv"


def _sample(rate: float, proxy_cpu: float | None = None) -> Sample:
    return Sample(rate, Latency(1 / rate, 2 / rate, 3 / rate), proxy_cpu, 5.0, 0.5, 100 if proxy_cpu else None)


class TestFigures:
    @pytest.mark.parametrize(
        ("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (0.07, 7), (0.001, 1), (1.0, 100)]
    )
    def test_nearest_rank(self, share: float, expected: int) -> None:
        assert percentile(list(range(100, 0, -1)), share) == expected

    def test_one_value_is_every_percentile(self) -> None:
        assert latency([0.002]) == Latency(2.0, 2.0, 2.0)

    def test_medians_of_each_figure(self) -> None:
        found = median_sample([_sample(10.0, 3.0), _sample(1000.0, 1.0), _sample(100.0, 2.0)], "cell")
        assert (found.rate, found.latency.p50, found.proxy_cpu, found.proxy_rss) == (100.0, 0.01, 2.0, 100)

    def test_no_proxy_is_not_a_proxy_that_costs_nothing(self) -> None:
        assert median_sample([_sample(10.0)], "cell").proxy_cpu is None

    def test_nothing_is_no_data(self) -> None:
        for call in (
            lambda: percentile([], 0.5),
            lambda: latency([]),
            lambda: median([], "cell"),
            lambda: median_sample([], "cell"),
            lambda: ratio(1.0, 0.0, "cell"),
        ):
            with pytest.raises(NoDataError, match="no data"):
                call()

    def test_a_ratio_needs_both_routes(self) -> None:
        cell = Cell("SET", 1, 1)
        results = Results(cells={(cell, "link"): [_sample(50.0)], (cell, "haproxy"): [_sample(100.0), _sample(100.0)]})
        assert results.rate_ratio(cell, "link", "haproxy") == 0.5
        with pytest.raises(NoDataError, match="direct"):
            results.rate_ratio(cell, "link", "direct")

    def test_every_route_is_first_in_turn(self) -> None:
        orders = [in_turn(run) for run in range(3)]
        for place in range(3):
            assert {order[place] for order in orders} == {"direct", "haproxy", "link"}


class _Server(threading.Thread):
    """A server that reads whole transactions and answers each with the next of its scripted answers.

    An answer of None closes the connection; then the next one is accepted. PING is answered always.
    """

    def __init__(self, answers: list[str | None]) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answers = iter(answers)
        self.connections = 0
        self.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self._listener.getsockname(), 5)

    def run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            self.connections += 1
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        while chunk := connection.recv(1 << 16):
            reader.feed(chunk)
            commands = 0
            while (command := reader.gets()) is not False:
                commands += 1
                if command[0] == b"PING":
                    connection.sendall(b"+PONG\r\n")
                    commands = 0
                elif command[0] == b"EXEC":
                    answer = next(self._answers, "")
                    if answer is None:
                        return
                    end = f"-{answer}\r\n" if answer else f"*{commands - 2}\r\n" + ":1\r\n" * (commands - 2)
                    connection.sendall(b"+OK\r\n" + b"+QUEUED\r\n" * (commands - 2) + end.encode())
                    commands = 0


def _write(answers: list[str | None], *, leaves_replicas: bool = False) -> tuple[Writer, _Server]:
    server = _Server(answers)
    writer = Writer("w", server.connect, leaves_replicas=leaves_replicas)
    writer.start()
    writer.wait_for_acknowledged(1)
    writer.wait_for_acknowledged(1)
    writer.stop()
    return writer, server


class TestWriter:
    def test_all_is_acknowledged_when_nothing_fails(self) -> None:
        writer, server = _write([])
        assert writer.acknowledged == set(range(writer.handed_over))
        assert (server.connections, writer.drops.total()) == (1, 0)

    def test_a_broken_connection_costs_the_batch_and_nothing_else(self) -> None:
        writer, server = _write(["", None])
        dropped = set(range(writer.handed_over)) - writer.acknowledged
        assert dropped == set(range(min(dropped), max(dropped) + 1))
        assert len(dropped) == writer.drops["closed by the other side"] > 0
        assert server.connections == 2

    def test_an_error_costs_the_batch_and_the_connection_stays(self) -> None:
        writer, server = _write(["", "NOREPLICAS Not enough good replicas to write."])
        assert writer.drops["NOREPLICAS Not enough good replicas to write."] > 0
        assert server.connections == 1

    @pytest.mark.parametrize(("leaves_replicas", "connections"), [(False, 1), (True, 2)])
    def test_only_a_client_that_knows_sentinel_leaves_a_replica(self, leaves_replicas: bool, connections: int) -> None:
        _, server = _write(["", "READONLY You can't write"], leaves_replicas=leaves_replicas)
        assert server.connections == connections


class TestCount:
    @staticmethod
    def _writer(acknowledged: set[int], handed_over: int) -> Writer:
        writer = Writer("w", socket.socket, leaves_replicas=False)
        writer.acknowledged, writer.handed_over = acknowledged, handed_over
        return writer

    def test_acknowledged_and_dropped_are_kept_apart(self) -> None:
        loss = count(self._writer({0, 1, 2, 4}, 6), 2, [1, 0, 2, 0, 1, 1], 1.5, 1)
        assert (loss.lost_acknowledged, loss.lost_dropped, loss.lost, loss.duplicated) == (1, 1, 2, 1)

    @pytest.mark.parametrize(
        ("acknowledged", "handed_over", "elections"), [({0, 1}, 2, 1), (set(), 4, 1), ({0, 1, 2, 3}, 4, 0)]
    )
    def test_a_failover_that_could_cost_nothing_is_no_data(
        self, acknowledged: set[int], handed_over: int, elections: int
    ) -> None:
        with pytest.raises(NoDataError, match="no data"):
            count(self._writer(acknowledged, handed_over), 2, [1] * handed_over, 1.5, elections)


class TestTransactions:
    def test_batch_is_42_commands_between_multi_and_exec(self) -> None:
        reader = hiredis.Reader()
        reader.feed(batches.batch("x"))
        names = [command[0] for command in iter(reader.gets, False)]
        assert names[0] == b"MULTI"
        assert names[-1] == b"EXEC"
        assert len(names) == batches.COMMANDS + 2
        assert set(names[1:-1]) == {b"SADD", b"SREM", b"RPUSH", b"RPUSHX", b"HSET", b"DEL", b"SET"}

    def test_batches_of_two_connections_share_no_order(self) -> None:
        names = [{command[1] for command in batches.order_commands(name)} for name in ("a-1", "b-1")]
        assert all(key.startswith(b"trader-BENCH:index:") for key in names[0] & names[1])

    def test_replies_are_read_in_any_pieces(self) -> None:
        here, there = socket.socketpair()
        expected = b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n"

        def send() -> None:
            for byte in expected:
                there.sendall(bytes([byte]))

        thread = threading.Thread(target=send)
        thread.start()
        received, replies = read(here, 3)
        thread.join()
        assert (received, replies) == (expected, [b"OK", b"QUEUED", [1]])

    def test_a_closed_connection_is_an_error(self) -> None:
        here, there = socket.socketpair()
        there.close()
        with pytest.raises(ConnectionError):
            read(here, 1)

    def test_errors_inside_exec_are_found(self) -> None:
        reader = hiredis.Reader()
        reader.feed(b"*2\r\n:1\r\n-WRONGTYPE x\r\n")
        assert first_error([b"OK", reader.gets()]) == "WRONGTYPE x"
        assert first_error([b"OK", [1, [b"x"]]]) is None

    def test_what_differs_is_shown(self) -> None:
        told = batches.difference(b"+QUEUED\r\n" * 20 + b"-NOREPLICAS x", b"+QUEUED\r\n" * 20 + b"*1\r\n:1\r\n")
        assert "-NOREPLICAS x" in told
        assert len(told) < 120

    def test_transaction(self) -> None:
        assert transaction([(b"GET", b"k")]) == (
            b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n"
        )
