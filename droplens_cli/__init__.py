"""`droplens`: the command that users install, for the local cloud or a stack in an AWS account.

app.py is the command line; the other modules do the work and know no command line.
"""
