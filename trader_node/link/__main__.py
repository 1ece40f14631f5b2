"""``python -m trader_node.link``: run a link."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from . import tls
from .access import URL, AccessError, read_login, read_target
from .allowance import Allowance, AllowanceError, parse_at_most_once
from .app import Link, UnknownMasterError
from .config import LinkConfig
from .events import EventFormatter, LogFormat, event
from .journal import JournalError
from .journal_file import Fsync
from .login import Login
from .policy import OnGap, OnOom
from .scripts import ScriptMode
from .url import Address

#: Exit status for a mistake in the settings.
_MISTAKE = 2
#: Any mistake in the arguments; typer exports only this subclass of it.
_UsageError: Any = typer.BadParameter.__mro__[1]


logger = logging.getLogger("link")


class _MistakeError(ValueError):
    """A setting is wrong; the message names it."""


def _address(text: str, setting: str) -> Address:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise _MistakeError(f"{setting}={text!r} is not host:port, e.g. 127.0.0.1:6379")
    return host.strip("[]"), int(port)


def _check_reach(listen: str, host: str, login: Login | None) -> None:
    """Refuse to serve everybody who can reach the port."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        return
    if login is None:
        raise _MistakeError(
            f"LINK_LISTEN={listen!r} is not on loopback, and who reaches it can write: set LINK_CLIENT_PASSWORD or "
            "LINK_CLIENT_PASSWORD_FILE, or listen on 127.0.0.1"
        )
    logger.warning(
        "LINK_LISTEN=%s is not on loopback: passwords and data of clients pass there in plain text",
        listen,
        extra=event("open_to_network", listen=listen),
    )


_DEFAULT_HTTP = "127.0.0.1:9125"


def _http_address(text: str) -> Address | None:
    # An empty variable counts as unset for the command line's library, but here it means none.
    if text == _DEFAULT_HTTP and os.environ.get("LINK_HTTP") == "":
        return None
    return _address(text, "LINK_HTTP") if text else None


def _collect_rarely() -> None:
    """Keep the garbage collector from walking the journal's entries, which are no garbage, again and again."""
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


def _run(
    url: Annotated[
        str,
        typer.Option(
            envvar="REDIS_URL",
            show_envvar=True,
            help="Where Redis is, e.g. sentinel://s1:26379,s2:26379,s3:26379/mymaster. Give one with a password in the "
            "environment: arguments show in process lists.",
        ),
    ],
    tls_ca_file: Annotated[
        str,
        typer.Option(
            envvar=tls.CA_FILE, help="authorities (PEM) that issue the servers' certificates; empty: the system's"
        ),
    ] = "",
    tls_cert_file: Annotated[
        str, typer.Option(envvar=tls.CERT_FILE, help="certificate (PEM) of the link, if the servers ask for one")
    ] = "",
    tls_key_file: Annotated[str, typer.Option(envvar=tls.KEY_FILE, help="its key (PEM, no passphrase)")] = "",
    tls_check_hostname: Annotated[
        str,
        typer.Option(
            envvar=tls.CHECK_HOSTNAME,
            help="false: any certificate of the authorities will do; true: it has to name the address, for Sentinels "
            "name nodes by IP address",
        ),
    ] = "true",
    tls_server_name: Annotated[
        str, typer.Option(envvar=tls.SERVER_NAME, help="name that all certificates have, to check instead of addresses")
    ] = "",
    listen: Annotated[str, typer.Option(envvar="LINK_LISTEN", help="host:port for clients")] = "127.0.0.1:6379",
    link_id: Annotated[
        str,
        typer.Option("--id", envvar="LINK_ID", help="names this link; one link per id, e.g. the trader id"),
    ] = "TRADER-001",
    marker_key: Annotated[
        str, typer.Option(envvar="LINK_MARKER_KEY", help="key of the marker; default: trader-<id>.link")
    ] = "",
    journal_dir: Annotated[
        str, typer.Option(envvar="LINK_JOURNAL_DIR", help="folder of the journal; none: in memory only")
    ] = "",
    fsync: Annotated[Fsync, typer.Option(envvar="LINK_FSYNC", help="when the journal is forced to disk")] = (
        Fsync.EVERYSEC
    ),
    journal_max_bytes: Annotated[
        int,
        typer.Option(envvar="LINK_JOURNAL_MAX_BYTES", min=1 << 20, help="bound of the journal; then clients wait"),
    ] = 256 << 20,
    http: Annotated[
        str, typer.Option(envvar="LINK_HTTP", help="host:port for /healthz, /status, /metrics; empty: none")
    ] = _DEFAULT_HTTP,
    metrics: Annotated[
        str,
        typer.Option(
            envvar="LINK_METRICS",
            help="host:port for /metrics alone, where a Prometheus on another host reaches it; empty: none",
        ),
    ] = "",
    response_timeout: Annotated[
        float, typer.Option(envvar="LINK_RESPONSE_TIMEOUT", min=0.1, help="seconds a master may be silent")
    ] = 1.0,
    drain_timeout: Annotated[
        float,
        typer.Option(envvar="LINK_DRAIN_TIMEOUT", min=0.0, help="seconds to wait for writes at SIGTERM"),
    ] = 5.0,
    acknowledge_held_after: Annotated[
        float,
        typer.Option(
            envvar="LINK_ACKNOWLEDGE_HELD_AFTER",
            help="answer a write from the journal on disk when it has waited for so many seconds, for clients that "
            "make no use of replies; negative: answer only what is applied",
        ),
    ] = -1.0,
    scripts: Annotated[
        ScriptMode,
        typer.Option(
            envvar="LINK_SCRIPTS",
            help="EVAL, EVALSHA, FCALL and FUNCTION LOAD: refuse; deterministic, if all your scripts depend on nothing "
            "but their arguments and the data; at-most-once: sent once, and not again after a failover",
        ),
    ] = ScriptMode.REFUSE,
    at_most_once: Annotated[
        str,
        typer.Option(
            envvar="LINK_AT_MOST_ONCE",
            help="commands that write and are sent once, outside of the guarantee, with commas between them",
        ),
    ] = "",
    on_gap: Annotated[
        OnGap,
        typer.Option(
            envvar="LINK_ON_GAP",
            help="when the data set cannot be made exact (a gap, a lost marker): stop, or take it as it is, say how "
            "many entries are lost, and continue",
        ),
    ] = OnGap.STOP,
    on_oom: Annotated[
        OnOom,
        typer.Option(
            envvar="LINK_ON_OOM",
            help="a write that Redis has no memory for (maxmemory): refuse it to the client, or hold it and "
            "everything behind it until there is memory, for clients that drop what is refused",
        ),
    ] = OnOom.REFUSE,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            envvar="LINK_ADOPT",
            help="a new journal takes over another one's data set at once, without watching whether its link runs",
        ),
    ] = False,
    force_failover: Annotated[
        bool,
        typer.Option(
            envvar="LINK_FORCE_FAILOVER",
            help="ask a Sentinel for a failover as soon as the master refuses connections and a majority of the "
            "Sentinels have lost it too, without waiting for down-after",
        ),
    ] = False,
    health_file: Annotated[
        str, typer.Option(envvar="LINK_HEALTH_FILE", help="file that tells a health check every second how it is")
    ] = "",
    log_format: Annotated[
        LogFormat, typer.Option(envvar="LINK_LOG_FORMAT", help="one line per event: for programs, or text for people")
    ] = LogFormat.LOGFMT,
    log_level: Annotated[str, typer.Option(envvar="LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR")] = "INFO",
) -> None:
    """Accept Redis commands on a local port and apply every write exactly once, through any failover.

    Passwords come from the environment, NAME or the file NAME_FILE: REDIS_PASSWORD (with REDIS_USERNAME) for the nodes,
    REDIS_SENTINEL_PASSWORD (with REDIS_SENTINEL_USERNAME) for the Sentinels, LINK_CLIENT_PASSWORD (with
    LINK_CLIENT_USERNAME) for what clients of the link have to give.
    """
    try:
        level = logging.getLevelNamesMapping().get(log_level.upper())
        if level is None:
            raise _MistakeError(f"LOG_LEVEL={log_level!r} is not one of DEBUG, INFO, WARNING, ERROR")
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(EventFormatter(log_format))
        logging.basicConfig(level=level, handlers=[handler])
        options = {
            URL: url,
            tls.CA_FILE: tls_ca_file,
            tls.CERT_FILE: tls_cert_file,
            tls.KEY_FILE: tls_key_file,
            tls.CHECK_HOSTNAME: tls_check_hostname,
            tls.SERVER_NAME: tls_server_name,
        }
        # Passwords have no option: arguments show in process lists.
        target = read_target({**os.environ, **options})
        login = read_login(os.environ)
        listening = _address(listen, "LINK_LISTEN")
        _check_reach(listen, listening[0], login)
        if acknowledge_held_after >= 0 and not journal_dir:
            raise _MistakeError(
                f"LINK_ACKNOWLEDGE_HELD_AFTER={acknowledge_held_after:g} needs a journal on disk: set LINK_JOURNAL_DIR"
            )
        config = LinkConfig(
            target=target,
            listen=listening,
            login=login,
            link_id=link_id,
            marker_key=marker_key or f"trader-{link_id}.link",
            journal_dir=Path(journal_dir) if journal_dir else None,
            fsync=fsync,
            journal_max_bytes=journal_max_bytes,
            http=_http_address(http),
            metrics=_address(metrics, "LINK_METRICS") if metrics else None,
            response_timeout=response_timeout,
            drain_timeout=drain_timeout,
            acknowledge_held_after=None if acknowledge_held_after < 0 else acknowledge_held_after,
            allowance=Allowance(scripts, parse_at_most_once(at_most_once)),
            on_gap=on_gap,
            on_oom=on_oom,
            adopt=adopt,
            force_failover=force_failover,
            health_file=Path(health_file) if health_file else None,
        )
        link = Link(config)
        _collect_rarely()
        uvloop.run(link.run())
    except (_MistakeError, AllowanceError, AccessError, JournalError, UnknownMasterError) as error:
        sys.stderr.write(f"link: {error}\n")
        raise typer.Exit(_MISTAKE) from None
    except OSError as error:
        sys.stderr.write(
            f"link: cannot listen on LINK_LISTEN={listen}, LINK_HTTP={http} or LINK_METRICS={metrics}: "
            f"{error.strerror}: set the one that is in use to a free port (a second link on a host needs its own; "
            "LINK_HTTP= for none)\n"
        )
        raise typer.Exit(_MISTAKE) from None


def main() -> int:
    """Run a link with the settings of arguments and environment; return the exit status."""
    app = typer.Typer(add_completion=False)
    app.command(name="link")(_run)
    try:
        # Not standalone, because that tells a mistake in a box of several lines.
        return app(standalone_mode=False) or 0
    except _UsageError as error:
        # It names the option and its variable.
        message = error.format_message().replace("Value error, ", "").rstrip(".")
    sys.stderr.write(f"link: {message}; all settings: python -m trader_node.link --help\n")
    return _MISTAKE


if __name__ == "__main__":
    sys.exit(main())
