"""The asynchronous client. `_sync` is generated from this folder by `producer/unasync.py`: change only this one."""
