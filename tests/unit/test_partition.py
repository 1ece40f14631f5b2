"""The packet filters of a partition: what their text says."""

from __future__ import annotations

import json

import pytest

from drills import partition

SUBNET = "172.28.77.0/24"
HOST, MASTER, TRADER = "172.28.77.1", "172.28.77.11", "172.28.77.31"


def test_a_container_that_is_cut_off_reaches_itself_and_the_host_only() -> None:
    assert partition.isolation(SUBNET, [MASTER, HOST]) == (
        "table inet drill\n"
        "delete table inet drill\n"
        "table inet drill {\n"
        " counter input_seen {}\n"
        " counter input_dropped {}\n"
        " chain input {\n"
        "  type filter hook input priority raw; policy accept;\n"
        "  ip saddr 172.28.77.0/24 ip saddr != { 172.28.77.1, 172.28.77.11 } counter name input_seen\n"
        "  ip saddr 172.28.77.0/24 ip saddr != { 172.28.77.1, 172.28.77.11 } counter name input_dropped drop\n"
        " }\n"
        " counter output_seen {}\n"
        " counter output_dropped {}\n"
        " chain output {\n"
        "  type filter hook output priority raw; policy accept;\n"
        "  ip daddr 172.28.77.0/24 ip daddr != { 172.28.77.1, 172.28.77.11 } counter name output_seen\n"
        "  ip daddr 172.28.77.0/24 ip daddr != { 172.28.77.1, 172.28.77.11 } counter name output_dropped drop\n"
        " }\n"
        "}\n"
    )


def test_what_is_cut_off_together_is_one_text_for_all() -> None:
    assert partition.isolation(SUBNET, [HOST, MASTER, TRADER]) == partition.isolation(
        SUBNET, [TRADER, HOST, MASTER, MASTER]
    )


def test_a_cut_names_whom_it_keeps_away() -> None:
    drops = [line.strip() for line in partition.cut([MASTER]).splitlines() if line.endswith("drop")]
    assert drops == [
        "ip saddr { 172.28.77.11 } counter name input_dropped drop",
        "ip daddr { 172.28.77.11 } counter name output_dropped drop",
    ]


def test_loss_counts_all_packets_and_drops_some() -> None:
    text = partition.loss(SUBNET, [HOST, MASTER], 10)
    for way in ("ip saddr", "ip daddr"):
        peers = f"{way} {SUBNET} {way} != {{ {HOST}, {MASTER} }}"
        hook = "input" if way == "ip saddr" else "output"
        assert f"  {peers} counter name {hook}_seen\n" in text
        assert f"  {peers} numgen random mod 100 < 10 counter name {hook}_dropped drop\n" in text


@pytest.mark.parametrize("percent", [-1, 0, 100])
def test_loss_is_neither_nothing_nor_everything(percent: int) -> None:
    with pytest.raises(ValueError, match=f"{percent} %"):
        partition.loss(SUBNET, [HOST], percent)


@pytest.mark.parametrize("rules", [lambda: partition.cut([]), lambda: partition.isolation(SUBNET, [])])
def test_an_empty_set_is_refused_before_nft_does(rules: object) -> None:
    with pytest.raises(ValueError, match="no address"):
        rules()  # type: ignore[operator]


def test_counters_are_read_from_our_own_table() -> None:
    def counter(name: str, packets: int, table: str = "drill") -> dict[str, object]:
        return {"counter": {"family": "inet", "table": table, "name": name, "packets": packets, "bytes": 0}}

    listing = {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            counter("input_seen", 200),
            counter("input_dropped", 21),
            counter("output_seen", 100),
            counter("output_dropped", 9),
            counter("input_dropped", 7, table="somebody"),
        ]
    }
    packets = partition.Packets.parse(json.dumps(listing))
    assert packets == partition.Packets(200, 21, 100, 9)
    assert str(packets) == "21 of 200 packets in, 9 of 100 out"


def test_without_rules_there_are_no_counts() -> None:
    with pytest.raises(KeyError):
        partition.Packets.parse('{"nftables": [{"metainfo": {}}]}')


def test_deaf_drops_only_what_arrives() -> None:
    rules = partition.deaf(["10.0.0.31"])
    assert "ip saddr { 10.0.0.31 } counter name input_dropped drop" in rules
    assert "output_dropped drop" not in rules
    # Counted as zero, not as absent.
    assert "counter output_dropped {}" in rules
