"""Runs the trader: the link to Redis and the node, ``python -m trader_node``."""

from __future__ import annotations

import asyncio
import os
import sys

from trader_node.processes import start_module
from trader_node.settings import Settings, SettingsError
from trader_node.supervision import EXIT_MISCONFIGURED, Child, Supervision
from trader_node.supervisor import Supervisor


def main() -> int:
    """Check the settings, run link and node, and return the process's exit code."""
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        print(f"trader: {error}", file=sys.stderr)
        return EXIT_MISCONFIGURED
    # The URL goes through the environment: arguments, and a password in them, can be read by every user.
    env = os.environ | {"REDIS_URL": settings.redis_url, "LINK_HEALTH_FILE": str(settings.link_health_path)}
    link_arguments = [
        "--listen",
        f"{settings.link_host}:{settings.link_port}",
        "--journal-dir",
        str(settings.journal_dir),
        "--id",
        settings.trader_id,
    ]
    launchers = {
        Child.LINK: lambda: start_module("trader_node.link", link_arguments, env),
        Child.NODE: lambda: start_module("trader_node.node", (), env),
    }
    return asyncio.run(Supervisor(launchers, Supervision()).run())


if __name__ == "__main__":
    sys.exit(main())
