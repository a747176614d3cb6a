"""The control API: HTTP over a Unix socket, for this machine's users and programs.

Light on purpose: the command line imports ``address`` and ``client``, only the service the rest.
"""
