"""Boards, as data: what they are made of and which runtimes install there."""
