"""Waiting, combining and spawning, once for asyncio and once for threads; the clients are generated from one text."""
