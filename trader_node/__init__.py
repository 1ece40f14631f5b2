"""A NautilusTrader node whose cached state survives any failover of Redis.

``python -m trader_node`` runs the node and its link to Redis; ``trader_node.database.database_config`` gives the same
link to people who run their own node script. Importing this package imports nothing of NautilusTrader.
"""
