"""The command line: arguments -> specification -> one call -> print. One file a command.

Nothing heavy (torch, pandas, matplotlib, pydantic) is imported before a command runs.
"""
