"""The whole pipeline in one thread: the real producer and the real flusher over servers that are kept in memory.

What is real: the producer's writer, reader and cache client, the flusher's `App` with loop, membership, claims, lanes,
database writer and settler, and everything in `shared`. What is a model: the servers behind them (`cache`, `table`,
`database`, `broker`), each a plain imitation of the statements, scripts and calls that reach it. A seed decides who
goes on at each call to a server, and what goes wrong there.
"""
