"""What goes to a board, as one file: a runner that needs Python 3.7, a runtime, and nothing else of edgekit.

Its modules import only the standard library and each other; a runtime, and numpy where that needs it, when one is used.
"""
