"""Trains the family `mover` on exact drives and real footage, in minutes, on a machine that is lent for minutes.

A pack holds its inputs: the encoder of a bundle and real footage. docs/reports/2026-11-27-mover.md has the commands.
"""
