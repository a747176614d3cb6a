"""Runs plugins in child processes that can be killed: the same runner as inline, over sockets.

A *nursery* (host) starts one *zygote* per sandbox, and the zygote forks a *child* per loaded
plugin. A *keeper* (host) starts, rests and buries the child of one plugin; each of its calls
goes over a *channel*, a Unix socket that one thread in the child serves.
"""
