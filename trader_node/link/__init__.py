"""A RESP proxy that keeps one Redis connection alive for its clients through every failover.

The core (``wire``, ``commands``, ``entries``, ``journal``, ``sequencer``, ``reads``, ``session``, ``discovery``)
takes bytes, clock readings and events and returns decisions; it opens no socket and no file. The shell
(``server``, ``upstream``, ``sentinels``, ``journal_file``, ``http``, ``app``) does the I/O.
"""
